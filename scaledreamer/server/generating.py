"""The handler of a generator process: prompts become field files."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaledreamer.errors import EmptySurfaceError, PromptError, ScaleDreamerError
from scaledreamer.server.lru import LRU
from scaledreamer.server.models import read_model
from scaledreamer.server.records import Failure

if TYPE_CHECKING:
    from scaledreamer.model.compile import Accelerator

CANARY = "a red wooden barrel"
EMBEDDINGS_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Load:
    """Load the model and try it."""


@dataclass(frozen=True)
class Loaded:
    """A model that has generated: which part runs on what, and why on nothing faster."""

    accelerators: dict[str, str]


@dataclass(frozen=True)
class FieldTask:
    """One field to make."""

    path: Path  # the file appears whole or not at all
    prompt: str
    blend: tuple[str, float] | None = None  # another prompt and its weight
    seed: int | None = None


@dataclass(frozen=True)
class Made:
    """A field file is there; its note has the model and what a user should know of the prompt."""


class Generating:
    """One loaded pipeline. Answers Load with Loaded, and a list of FieldTasks with as many Made or Failure."""

    def __init__(
        self, model: str | None, text_encoder: str | None, device: str, accelerator: "Accelerator" = "eager"
    ) -> None:
        from scaledreamer.pipeline import TextTo3D

        self.pipe = TextTo3D.load(model, text_encoder=text_encoder, device=device, accelerator=accelerator)
        file = read_model(model)
        self.note = {"model": file.id, "model_sha256": file.sha256, "licence": file.licence}
        self.embeddings: LRU[Any] = LRU(EMBEDDINGS_BYTES)
        self.told = self.loaded()

    def __call__(self, task: Load | Sequence[FieldTask], say: Callable[[Any], None]) -> Loaded | list[Made | Failure]:
        """Says Loaded anew when a part has fallen back since."""
        if isinstance(task, Load):
            return self.tried()
        made = self.make(task)
        if (loaded := self.loaded()) != self.told:
            say(loaded)
            self.told = loaded
        return made

    def tried(self) -> Loaded:
        """After one generation: the first real job is neither slow nor the first to fail."""
        with suppress(EmptySurfaceError):  # a model need not know barrels; it ran
            self.pipe(CANARY, resolution=32)
        self.told = self.loaded()
        return self.told

    def loaded(self) -> Loaded:
        """What runs the parts of the pipeline by now."""
        return Loaded({one.part: str(one) for one in self.pipe.acceleration})

    def make(self, tasks: Sequence[FieldTask]) -> list[Made | Failure]:
        """All fields in one pass; where that fails, one after the other, so that each gets its own answer."""
        if len({task.seed for task in tasks}) == 1:
            with suppress(Exception):
                return self.together(tasks)
        return [self.one(task) for task in tasks]

    def one(self, task: FieldTask) -> Made | Failure:
        """A field by itself."""
        try:
            return self.together([task])[0]
        except Exception as error:
            return failure_of(error)

    def together(self, tasks: Sequence[FieldTask]) -> list[Made | Failure]:
        """One pass of the generator, for tasks of one seed."""
        from scaledreamer.model.fields.files import save_field
        from scaledreamer.model.text import concatenate

        seed = tasks[0].seed
        plain = [self.embedding(task.prompt) for task in tasks if task.blend is None]
        scenes = iter(self.pipe.generate(concatenate(plain), seed) if plain else ())
        for task in tasks:
            save_field(
                next(scenes) if task.blend is None else self.between(task.prompt, *task.blend, task.seed),
                task.path,
                self.note | {"warnings": self.warnings(task)},
            )
        return [Made() for _ in tasks]

    def between(self, prompt: str, other: str, weight: float, seed: int | None) -> Any:
        """The field of a blend."""
        return self.pipe.generate_between(self.embedding(prompt), self.embedding(other), weight, seed)

    def embedding(self, prompt: str) -> Any:
        """Of one prompt; recent ones are kept."""

        def encode() -> tuple[Any, int]:
            text = self.pipe.encoder.encode([prompt])
            return text, text.tokens.nbytes + text.pooled.nbytes

        return self.embeddings.get(prompt, encode)

    def warnings(self, task: FieldTask) -> list[str]:
        """What a user should know about the prompts."""
        prompts = [task.prompt] if task.blend is None else [task.prompt, task.blend[0]]
        return [warning for prompt in prompts for warning in self.pipe.warnings(prompt)]


def failure_of(error: Exception) -> Failure:
    """An exception as the failure of a job."""
    match error:
        case PromptError():
            return Failure("invalid-prompt", str(error))
        case EmptySurfaceError():
            return Failure("empty-mesh", str(error))
        case MemoryError():
            return Failure("out-of-memory", "the job did not fit in memory; ask for a lower resolution")
        case OSError():
            import errno

            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return Failure("storage-full", "no space is left for the files; free some and send it again")
            return Failure("generation-failed", f"cannot write the files: {error.strerror or error}")
        case ScaleDreamerError():
            return Failure("generation-failed", str(error))
        case _ if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
            return Failure("out-of-memory", "the GPU's memory is full; try again, or ask for a smaller batch")
        case _:
            return Failure("generation-failed", f"{type(error).__name__}: {error}")
