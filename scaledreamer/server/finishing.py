"""The handler of a mesh process: a field file becomes the folder of a finished asset."""

import hashlib
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaledreamer.server.generating import failure_of
from scaledreamer.server.records import Failure, Outcome, StoredFile


@dataclass(frozen=True)
class Warm:
    """Import what the work needs."""


@dataclass(frozen=True)
class FinishTask:
    """One asset to make."""

    field: Path
    folder: Path  # of the files; what lies there is removed first
    prompt: str
    settings: dict[str, Any]  # of export.presets.AssetSettings
    formats: tuple[str, ...]  # suffixes
    seed: int | None = None


class Finishing:
    """Answers a FinishTask with an Outcome or a Failure; says (stage, share done) on the way."""

    def __init__(self) -> None:
        import scaledreamer.export.finish
        import scaledreamer.export.package
        import scaledreamer.model.fields.files  # noqa: F401

    def __call__(self, task: Warm | FinishTask, say: Callable[[Any], None]) -> Outcome | Failure | None:
        if isinstance(task, Warm):
            return None
        try:
            return finish(task, say)
        except Exception as error:
            return failure_of(error)


def finish(task: FinishTask, say: Callable[[Any], None]) -> Outcome:
    """Read the field, finish it, write the package and a zip of it all."""
    from scaledreamer.export.finish import finish_field
    from scaledreamer.export.package import extras_of, write_package
    from scaledreamer.export.presets import AssetSettings
    from scaledreamer.model.fields.files import load_field, read_note

    settings, note = AssetSettings(**task.settings), read_note(task.field)
    warnings = note.get("warnings", [])  # fields of releases before have none
    asset = finish_field(
        load_field(task.field), settings, task.prompt, note["model"], lambda stage, share: say((stage, share)),
        warnings,
    )  # fmt: skip
    say(("export", 0.95))
    began = time.monotonic()
    shutil.rmtree(task.folder, ignore_errors=True)
    extras = extras_of(asset, note["licence"]) | {"model_sha256": note["model_sha256"]}
    if task.seed is not None:
        extras["seed"] = task.seed
    manifest = write_package(asset, task.folder, task.formats, extras)
    files = [StoredFile(file.name, file.role, file.media_type, file.bytes, file.sha256) for file in manifest.files]
    files.append(describe(task.folder / "manifest.json", "manifest", "application/json"))
    bundle = task.folder / f"{asset.name}.zip"
    write_zip(bundle, [task.folder / file.name for file in files])
    files.append(describe(bundle, "bundle", "application/zip"))
    seconds = {**asset.seconds, "export": time.monotonic() - began}
    timings = {stage: round(1000 * value) for stage, value in seconds.items()}
    report = asset.report.model_dump(mode="json")
    return Outcome(tuple(files), report, (*warnings, *asset.report.degraded), timings)


def write_zip(path: Path, members: list[Path]) -> None:
    """The same members give the same bytes: a fixed date, a fixed order."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for member in members:
            entry = zipfile.ZipInfo(member.name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            with member.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target)


def describe(path: Path, role: str, media_type: str) -> StoredFile:
    """A file that is on the disk when this returns."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return StoredFile(path.name, role, media_type, path.stat().st_size, digest)
