"""Which model files there are, and what their headers say. Without torch, so that the server's web process may ask."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

from scaledreamer.errors import ModelFileError

FORMAT = "scaledreamer/1"
DEFAULT = "props"
PICKLED = {".pth", ".pt", ".ckpt", ".bin", ".pkl"}
LONGEST_HEADER = 100_000_000  # bytes, as in the safetensors library


def read_header(path: Path, kind: str) -> dict[str, Any]:
    """The JSON header of a file of ours; anything else is refused with what was found."""
    if not path.is_file():
        raise ModelFileError(f"no model file at {path}")
    if path.suffix in PICKLED:
        raise ModelFileError(
            f"{path} is a pickled file and is not opened here; run: scaledreamer convert {path} -o OUT"
        )
    metadata = read_metadata(path)
    if metadata.get("format") != FORMAT:
        raise ModelFileError(
            f"{path} is safetensors of format {metadata.get('format', 'unknown')!r}, not {FORMAT!r}; "
            "official weights are converted with: scaledreamer convert"
        )
    if metadata.get("kind") != kind:
        raise ModelFileError(f"{path} holds a {metadata.get('kind')!r}, but a {kind!r} is needed here")
    header: dict[str, Any] = json.loads(metadata["header"])
    return header


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself: eight bytes of length, JSON, then tensors to the end of the file."""

    def broken(why: object) -> ModelFileError:
        return ModelFileError(f"{path} is no complete safetensors file ({why}); fetch or write it again")

    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LONGEST_HEADER:
                raise broken("the header is too long")
            written = json.loads(file.read(length))
        metadata = written.pop("__metadata__", {})
        end = max((entry["data_offsets"][1] for entry in written.values()), default=0)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        raise broken(error) from error
    if path.stat().st_size != 8 + length + end:
        raise broken(f"{path.stat().st_size} bytes, of {8 + length + end}")
    return dict(metadata)


def read_card(path: Path | str) -> dict[str, Any]:
    """The header of a generator's file: config, text_encoder, stochastic, card."""
    return read_header(Path(path), "generator")


def find_model(name: str | Path | None) -> Path:
    """A model file from a path, or from the name of one that ships (None: the default)."""
    name = name or DEFAULT
    if Path(name).suffix or Path(name).exists():
        return Path(name)
    shipped = Path(str(resources.files("scaledreamer"))) / "weights" / f"{name}.safetensors"
    if not shipped.is_file():
        raise ModelFileError(f"no model named {name!r}; choose one of {shipped_models()} or give a .safetensors file")
    return shipped


def shipped_models() -> list[str]:
    """Names of the generators in the package."""
    folder = Path(str(resources.files("scaledreamer"))) / "weights"
    names = []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            read_card(path)
        except ModelFileError:  # the prior lies beside it
            continue
        names.append(path.stem)
    return sorted(names)
