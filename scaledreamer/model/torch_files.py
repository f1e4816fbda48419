"""Files of torch.save, opened as weights alone: nothing in them is executed, and other files are told what they are."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch.serialization import get_unsafe_globals_in_checkpoint

from scaledreamer.errors import ModelFileError
from scaledreamer.model.shelf import FORMAT

REMEDY = "give a released ScaleDreamer .pth or MVDream's sd-v2.1-base-4view.pt"
ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # how a file of torch.save begins; how it began before torch 1.6


def open_weights(path: Path) -> dict[str, Any]:
    """The dictionary in a file: plain values, and tensors that stay on disk until they are used."""
    refuse_other_files(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch speaks of TorchScript before it raises
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # damaged bytes make it raise almost anything
        raise ModelFileError(f"{path} is no plain PyTorch file of weights: {what_is_wrong(path, error)}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ModelFileError(f"{path} holds a {type(found).__name__}, not weights by name; {REMEDY}")
    refuse_lora(path, found)
    return found


def refuse_other_files(path: Path) -> None:
    """What may be given by mistake, by its first bytes."""
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder; a diffusers folder is used as it is, and for the rest: {REMEDY}")
    if not path.is_file():
        raise ModelFileError(f"no file at {path}; {REMEDY}")
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise ModelFileError(f"cannot read {path} ({error.strerror}); make it readable first") from error
    if start.startswith(ZIP):
        return
    refuse_safetensors(path)
    found = (
        "is a bare pickle, which could run code and is not opened" if start.startswith(PICKLE) else f"begins {start!r}"
    )
    raise ModelFileError(f"{path} was not written by torch.save: it {found}; {REMEDY}")


def refuse_safetensors(path: Path) -> None:
    """Say what a safetensors file is, if it is one."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
    except SafetensorError:
        return
    if metadata.get("format") == FORMAT:
        raise ModelFileError(f"{path} is a ScaleDreamer {metadata.get('kind')} already; use it as it is")
    refuse_lora(path, names)
    raise ModelFileError(f"{path} is safetensors of another program, with keys such as {names[:3]}; {REMEDY}")


def refuse_lora(path: Path, names: Iterable[str]) -> None:
    """Low-rank changes to a diffusion model are no model."""
    lora = next((name for name in names if "lora" in name.lower()), None)
    if lora is not None:
        raise ModelFileError(f"{path} is a LoRA ({lora!r}): it changes a diffusion model and makes no shape; {REMEDY}")


def what_is_wrong(path: Path, error: Exception) -> str:
    """Why torch did not load it, and the way out; torch's own advice, to load it unsafely, is not passed on."""
    try:
        asked = sorted(get_unsafe_globals_in_checkpoint(path))
    except Exception:  # damaged bytes, as above
        asked = []
    if asked:
        return (
            f"its pickle asks for {', '.join(asked[:3])}, which could run code; nothing was executed. If you trust it, "
            "let the program that made it write its ['state_dict'] alone, and convert that"
        )
    reason = " ".join(str(error).split(". ")[0].split())[:120]
    return f"it is damaged or cut short ({reason}); fetch it again"
