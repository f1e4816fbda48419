"""What the generator is trained on: a corpus of prompts, as text and nothing else."""

from pathlib import Path
from typing import Annotated, Literal, assert_never

from pydantic import Field, PositiveInt

from scaledreamer.config import Config
from scaledreamer.errors import ConfigError
from scaledreamer.training.props.grammar import training_prompts


class PropsCorpus(Config):
    """The grammar of the props world without what is held out."""

    kind: Literal["props"] = "props"
    wordings: PositiveInt = 16  # prompts a prop, the canonical one among them


class FileCorpus(Config):
    """A text file with one prompt a line."""

    kind: Literal["file"] = "file"
    path: Path


CorpusConfig = Annotated[PropsCorpus | FileCorpus, Field(discriminator="kind")]


def read_corpus(config: PropsCorpus | FileCorpus) -> list[str]:
    """All prompts in order."""
    match config:
        case PropsCorpus(wordings=wordings):
            return training_prompts(wordings)
        case FileCorpus(path=path):
            if not path.is_file():
                raise ConfigError(f"corpus.path: no file at {path}")
            prompts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
            prompts = [prompt for prompt in prompts if prompt]
            if not prompts:
                raise ConfigError(f"corpus.path: {path} holds no prompt; write one a line")
            return prompts
        case _:
            assert_never(config)
