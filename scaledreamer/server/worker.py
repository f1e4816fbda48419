"""What runs inside a worker process: one pipeline, loaded once, one job at a time."""

import errno
import hashlib
import os
import re
import shutil
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, Protocol

from scaledreamer.errors import EmptySurfaceError, PromptError, ScaleDreamerError
from scaledreamer.server.jobs import Failure, Outcome, StoredFile
from scaledreamer.server.schemas import Report

IDLE, GENERATE, EXPORT = 0, 1, 2  # what the worker is at, in a number that it shares with the web process
CANARY = "a red wooden barrel"


class AnyMesh(Protocol):
    """What the worker needs of `export.Mesh`."""

    @property
    def vertices(self) -> Any: ...
    @property
    def faces(self) -> Any: ...
    def write(self, path: Any, extras: Any = None) -> Any: ...


class Pipeline(Protocol):
    """What the worker needs of `pipeline.TextTo3D`."""

    @property
    def model_id(self) -> str: ...
    def warnings(self, prompt: str) -> list[str]: ...
    def __call__(self, prompt: str, resolution: int = 128) -> Any: ...


Factory = Callable[[], Pipeline]


@dataclass(frozen=True)
class Task:
    """One job as it travels to the worker."""

    job: str
    folder: Path  # of this job; appears whole or not at all
    prompt: str
    resolution: int
    formats: tuple[str, ...]


class Shared(Protocol):
    """A number in shared memory (`multiprocessing.RawValue`)."""

    value: int


_stage: Shared
_pipeline: Pipeline


def load_pipeline(model: str | None, text_encoder: str | None, device: str) -> Pipeline:
    """The real factory."""
    from scaledreamer.pipeline import TextTo3D

    return TextTo3D.load(model, text_encoder=text_encoder, device=device)


def start(stage: Shared, threads: int) -> None:
    """First thing in the process: bound its threads, leave Ctrl-C to the parent, and end when the parent ends."""
    global _stage
    _stage = stage
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def warm_up(factory: Factory) -> str | Failure:
    """Load the model and generate once, so that the first real job is neither slow nor the first to fail."""
    global _pipeline
    try:
        _pipeline = factory()
        with suppress(EmptySurfaceError):  # a model need not know barrels; it ran
            _pipeline(CANARY, resolution=32)
    except ScaleDreamerError as error:
        return Failure("model-unavailable", str(error))
    except Exception as error:
        return Failure("model-unavailable", f"{type(error).__name__}: {error}")
    return _pipeline.model_id


def generate(task: Task) -> Outcome | Failure:
    """Prompt -> files. Every failure comes back as a value; only the death of the process raises in the parent."""
    try:
        return _generate(task)
    except PromptError as error:
        return Failure("invalid-prompt", str(error))
    except EmptySurfaceError as error:
        return Failure("empty-mesh", str(error))
    except MemoryError:
        return Failure("out-of-memory", f"resolution {task.resolution} did not fit in memory; ask for a lower one")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Failure("storage-full", f"no space is left in {task.folder.parent}; free some and send it again")
        return Failure("generation-failed", f"cannot write the files: {error.strerror or error}")
    except Exception as error:
        return Failure("generation-failed", f"{type(error).__name__}: {error}")
    finally:
        _stage.value = IDLE


def _generate(task: Task) -> Outcome:
    _stage.value = GENERATE
    begin = time.perf_counter()
    warnings = tuple(_pipeline.warnings(task.prompt))
    mesh = _pipeline(task.prompt, resolution=task.resolution)
    generated = time.perf_counter()
    _stage.value = EXPORT
    files = write_files(mesh, task, _pipeline.model_id)
    timings = {"generate": generated - begin, "export": time.perf_counter() - generated}
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    report = Report(
        vertices=len(mesh.vertices),
        faces=len(mesh.faces),
        bounds=((_float(low[0]), _float(low[1]), _float(low[2])), (_float(high[0]), _float(high[1]), _float(high[2]))),
    )
    milliseconds = {stage: round(1000 * seconds) for stage, seconds in timings.items()}
    return Outcome(_pipeline.model_id, files, report, warnings, milliseconds)


def _float(value: Any) -> float:
    return round(float(value), 6)


def write_files(mesh: AnyMesh, task: Task, model: str) -> tuple[StoredFile, ...]:
    """Every format and a zip of all, written beside the job's folder and renamed into place as one."""
    partial = task.folder.with_name(f".{task.job}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    stem = slug(task.prompt)
    extras = {"prompt": task.prompt, "model": model, "resolution": task.resolution}
    try:
        for name in task.formats:
            mesh.write(partial / f"{stem}.{name}", extras=extras)
        order = [*task.formats, "mtl"]  # the .mtl comes with the .obj
        found = sorted(partial.iterdir(), key=lambda path: order.index(path.suffix[1:]))
        write_zip(partial / f"{stem}.zip", found)
        files = tuple(_describe(path) for path in [*found, partial / f"{stem}.zip"])
        partial.replace(task.folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return files


def write_zip(path: Path, members: list[Path]) -> None:
    """The same members give the same bytes: a fixed date, a fixed order."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for member in members:
            entry = zipfile.ZipInfo(member.name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            with member.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target)


def _describe(path: Path) -> StoredFile:
    suffix = path.suffix[1:]
    role = {"mtl": "material", "zip": "bundle"}.get(suffix, "mesh")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return StoredFile(path.name, role, suffix, path.stat().st_size, digest)


def slug(prompt: str) -> str:
    """A file name for a prompt: 'a-red-wooden-barrel'."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    return words[:48].rstrip("-") or "mesh"
