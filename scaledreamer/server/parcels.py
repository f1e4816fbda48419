"""Tasks that cross machines: their files travel as bytes, and what was made is written by the process that asked."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scaledreamer.files import atomic_path
from scaledreamer.server.finishing import FinishTask
from scaledreamer.server.generating import FieldTask, Made
from scaledreamer.server.records import Outcome

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Parcel:
    """A task, and the files that it reads."""

    task: Any
    files: Files


def pack(task: Any) -> Parcel:
    """Where the task was given. Raises OSError."""
    return Parcel(task, {"field": task.field.read_bytes()} if isinstance(task, FinishTask) else {})


def unpack(parcel: Parcel, folder: Path) -> Any:
    """Where it is done: the same task, with its paths in an empty folder of its own."""
    match parcel.task:
        case FinishTask() as task:
            field = folder / "field.safetensors"
            field.write_bytes(parcel.files["field"])
            return replace(task, field=field, folder=folder / "asset")
        case list() as tasks:
            return [replace(task, path=folder / f"{number}.safetensors") for number, task in enumerate(tasks)]
        case task:
            return task


def collect(task: Any, answer: Any) -> Files:
    """Where it was done: the files of an unpacked task that has been answered. Raises OSError."""
    match task, answer:
        case FinishTask(), Outcome():
            return {path.name: path.read_bytes() for path in sorted(task.folder.iterdir())}
        case list(), list():
            made = [one.path for one, each in zip(task, answer, strict=True) if isinstance(each, Made)]
            return {path.name: path.read_bytes() for path in made}
        case _:
            return {}


def deliver(task: Any, files: Files) -> None:
    """Where the task was given: files are where it wants them, and on the disk. Raises OSError."""
    match task:
        case FinishTask() if files:
            shutil.rmtree(task.folder, ignore_errors=True)
            task.folder.mkdir(parents=True)
            for name, content in files.items():
                with (task.folder / name).open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
        case list() as tasks:
            for number, one in enumerate(tasks):
                assert isinstance(one, FieldTask)
                if (field := files.get(f"{number}.safetensors")) is not None:
                    with atomic_path(one.path) as partial:
                        partial.write_bytes(field)
