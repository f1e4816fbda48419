"""The model that a server runs, as its file says: known before a process has loaded it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from scaledreamer.model.shelf import find_model, read_card


@dataclass(frozen=True)
class ModelFile:
    """A generator's file."""

    id: str
    path: Path
    sha256: str
    stochastic: bool  # a seed changes the result
    text_encoder: str
    licence: str | None


def read_model(model: str | None) -> ModelFile:
    """Hash and header of a model by name or path. Raises ModelFileError, and OSError where it cannot be read."""
    path = find_model(model)
    header = read_card(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelFile(
        path.stem, path, digest, bool(header["stochastic"]), header["text_encoder"], header["card"].get("licence")
    )
