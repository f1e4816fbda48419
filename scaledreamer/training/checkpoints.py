"""A run's checkpoints: the newest and the one before it, each whole or not there; a damaged newest gives way."""

import json
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from scaledreamer.errors import ModelFileError
from scaledreamer.files import remove_partials
from scaledreamer.model.checkpoint import half, read_tensors, write
from scaledreamer.model.shelf import read_header
from scaledreamer.progress import warn

CHECKPOINT = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"
DAMAGED = "checkpoint.damaged.safetensors"


def exists(folder: Path) -> bool:
    """Whether a run in this folder has saved anything."""
    return (folder / CHECKPOINT).exists() or (folder / PREVIOUS).exists()


def save(folder: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write the newest checkpoint; what was newest becomes the previous one.

    The disk holds two at most, also while one is written. Raises OSError where it cannot be written; the newest stays.
    """
    remove_partials(folder / CHECKPOINT)  # of a process that was killed
    if (folder / CHECKPOINT).exists():
        _name_again(folder / CHECKPOINT, folder / PREVIOUS)
    _write(folder / CHECKPOINT, tensors, header)


def _name_again(path: Path, other: Path) -> None:
    """A second name for a file, in place of what had that name."""
    partial = other.with_name(f".{other.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(path, partial)
    except OSError:  # a file system without hard links
        path.replace(other)
    else:
        partial.replace(other)


def load(folder: Path, tell: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of the newest whole checkpoint.

    A damaged newest is set aside under another name, and `tell` warns of it. Raises ModelFileError where none is whole.
    """
    newest, previous = folder / CHECKPOINT, folder / PREVIOUS
    try:
        return read(newest)
    except ModelFileError as error:
        if not previous.exists():
            raise
        found = read(previous)
        with suppress(FileNotFoundError):  # or else the next save would take it for the previous one
            newest.replace(folder / DAMAGED)
        if tell:
            step = found[0]["counters"]["step"]
            warn(f"{error}; the run goes on from the previous checkpoint, of step {step}. A damaged one is {DAMAGED}")
        return found


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of one checkpoint; ModelFileError where a byte is not what was written."""
    header = _header(path)
    try:
        tensors = read_tensors(path)
    except SafetensorError as error:
        raise ModelFileError(f"{path} is damaged ({error})") from error
    written = header.pop("crc32", None)
    if written is not None and written != _checksum(tensors, header):
        raise ModelFileError(f"{path} is damaged: it has another checksum than what was written")
    return header, tensors


def read_newest_header(folder: Path) -> dict[str, Any]:
    """What the newest checkpoint says, or the previous one where that cannot be read."""
    try:
        return _header(folder / CHECKPOINT)
    except ModelFileError:
        if not (folder / PREVIOUS).exists():
            raise
        return _header(folder / PREVIOUS)


def _header(path: Path) -> dict[str, Any]:
    try:
        return read_header(path, "training")
    except (ValueError, KeyError) as error:
        raise ModelFileError(f"{path} is damaged: its header cannot be read ({error})") from error


def _write(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    write(path, "training", tensors, header | {"crc32": _checksum(tensors, header)})


def _checksum(tensors: dict[str, Tensor], header: dict[str, Any]) -> int:
    """CRC-32 of the header and of all bytes, in the order of the names."""
    crc = zlib.crc32(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        flat = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        crc = zlib.crc32(flat.numpy().data, crc)
    return crc


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def averaged_weights(folder: Path) -> dict[str, Tensor]:
    """The weights that a run keeps: its EMA, or the model where there is none."""
    _, tensors = read(folder / CHECKPOINT)
    return under("ema.", tensors) or under("model.", tensors)


def shrink(folder: Path, out: Path) -> None:
    """Write a run's averaged weights and counters in fp16, without optimiser moments: small enough to carry.

    A resume from it starts the moments anew, so it is not exact.
    """
    header, _ = read(folder / CHECKPOINT)
    _write(out, half({f"model.{name}": value for name, value in averaged_weights(folder).items()}), header)
