"""Handlers without a model: they start without torch; a prompt is a triangle, save for words that ask for trouble."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scaledreamer.errors import EmptySurfaceError, ModelFileError, PromptError
from scaledreamer.files import atomic_path
from scaledreamer.server.finishing import FinishTask, Warm, describe, write_zip
from scaledreamer.server.generating import FieldTask, Load, Loaded, Made, failure_of
from scaledreamer.server.models import ModelFile
from scaledreamer.server.records import Failure, Outcome, StoredFile

SLOW = 1.5  # seconds that a slow prompt takes
MODEL = ModelFile("ball", Path("ball.safetensors"), "0" * 64, False, "minilm", "Apache-2.0")
Say = Callable[[Any], None]


def trouble(prompt: str, stage: str) -> None:
    """What the words of a prompt ask for; with 'meshing' in the mesh process, else in the generator's."""
    if ("meshing" in prompt) != (stage == "mesh"):
        return
    if "crash" in prompt:
        os.kill(os.getpid(), signal.SIGKILL)
    if "slow" in prompt:
        time.sleep(SLOW)
    if "hang" in prompt:
        time.sleep(600)
    if "nothing" in prompt:
        raise EmptySurfaceError("the field has no zero level; try another prompt")
    if "refused" in prompt:
        raise PromptError("this prompt is refused")
    if "broken" in prompt:
        raise RuntimeError("a fault of the program")
    if "disk" in prompt:
        raise OSError(28, "No space left on device")


class FakeGenerating:
    """What `Generating` looks like to the flow."""

    def __call__(self, task: Load | Sequence[FieldTask], say: Say) -> Loaded | list[Made | Failure]:
        if isinstance(task, Load):
            return Loaded({"generator": "eager"})
        answers: list[Made | Failure] = []
        for one in task:
            try:
                trouble(one.prompt, "field")
                with atomic_path(one.path) as partial:
                    partial.write_text(one.prompt)
                answers.append(Made())
            except Exception as error:
                answers.append(failure_of(error))
        return answers


class FakeFinishing:
    """What `Finishing` looks like to the flow."""

    def __call__(self, task: Warm | FinishTask, say: Say) -> Outcome | Failure | None:
        if isinstance(task, Warm):
            return None
        try:
            trouble(task.prompt, "mesh")
            return self.finish(task, say)
        except Exception as error:
            return failure_of(error)

    def finish(self, task: FinishTask, say: Say) -> Outcome:
        say(("extract", 0.1))
        shutil.rmtree(task.folder, ignore_errors=True)
        task.folder.mkdir(parents=True)
        files: list[StoredFile] = []
        for suffix in task.formats:
            path = task.folder / f"triangle{suffix}"
            path.write_bytes(b"glTF" + task.field.read_bytes() + str(task.settings["resolution"]).encode())
            kind = {".glb": "model/gltf-binary", ".obj": "model/obj", ".stl": "model/stl"}
            files.append(describe(path, "mesh", kind.get(suffix, "application/octet-stream")))
        say(("export", 0.9))
        write_zip(task.folder / "triangle.zip", [task.folder / file.name for file in files])
        files.append(describe(task.folder / "triangle.zip", "bundle", "application/zip"))
        unread = ("the last words were not read",) if len(task.field.read_text().split()) > 20 else ()
        return Outcome(tuple(files), {"faces": 1, "resolution": task.settings["resolution"]}, unread, {"extract": 1})


class Diary:
    """The factory of a handler that writes down what it is asked for, as lines of JSON: who, prompt, blend."""

    def __init__(self, path: Path, factory: Callable[[], Any]) -> None:
        self.path, self.factory = path, factory

    def __call__(self) -> Callable[[Any, Say], Any]:
        handler = self.factory()

        def noting(task: Any, say: Say) -> Any:
            with self.path.open("a") as file:
                for one in task if isinstance(task, Sequence) else [task]:
                    if isinstance(one, FieldTask | FinishTask):
                        told = {"pid": os.getpid(), "prompt": one.prompt, "blend": getattr(one, "blend", None)}
                        file.write(json.dumps(told) + "\n")
            return handler(task, say)

        return noting

    def read(self, word: str) -> list[dict[str, Any]]:
        """The entries whose prompt holds a word."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [entry for entry in map(json.loads, lines) if word in entry["prompt"]]


class MissingModel:
    """A model that is not there."""

    def __init__(self) -> None:
        time.sleep(0.3)
        raise ModelFileError("no model at 'barrel.safetensors'; give a path or leave it out")


class DiesOnce:
    """The factory of a process that dies the first time it loads, as when memory runs out for a moment."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __call__(self) -> FakeGenerating:
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return FakeGenerating()
