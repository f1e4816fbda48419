"""Single-file models: safetensors whose metadata says what the file is and how to rebuild it."""

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from scaledreamer.errors import ModelFileError
from scaledreamer.files import atomic_path
from scaledreamer.model.shelf import FORMAT


def write(path: Path, kind: str, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors with a JSON header under our format mark; the file appears whole or not at all.

    Raises OSError where it cannot be written.
    """
    metadata = {"format": FORMAT, "kind": kind, "header": json.dumps(header, sort_keys=True)}
    with atomic_path(path) as partial:
        try:
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, partial, metadata)
        except SafetensorError as error:
            if code := re.search(r"os error (\d+)", str(error)):  # a full disk, most likely
                raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
            raise
        _order_header(partial)


def _order_header(path: Path) -> None:
    """Sort the header's keys, so that equal models are equal files: safetensors writes metadata in a hash's order."""
    with path.open("rb+") as file:
        length = int.from_bytes(file.read(8), "little")
        written = json.loads(file.read(length))
        ordered = json.dumps(written, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        if len(ordered) > length:
            raise RuntimeError(f"{path}: the header needs {len(ordered)} bytes, but has {length}")
        file.seek(8)
        file.write(ordered.ljust(length))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file whose header has been checked."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)


def load_weights(module: nn.Module, tensors: dict[str, Tensor], path: Path, partial: bool = False) -> None:
    """Copy weights (any float type) into a module of the same keys and shapes; a difference is refused by name.

    `partial` leaves what the file lacks as it is.
    """
    own = module.state_dict()
    if partial:
        tensors = own | tensors
    check_fit(own, tensors, path)
    module.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in tensors.items()})


def check_fit(own: dict[str, Tensor], tensors: dict[str, Tensor], path: Path) -> None:
    """Refuse tensors of a file whose names or shapes are not those of `own`, which its config has built."""
    missing, surplus = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or surplus:
        raise ModelFileError(f"{path} does not fit its own config: missing {missing[:3]}, not expected {surplus[:3]}")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise ModelFileError(f"{path}: {name} is {tuple(tensor.shape)}, expected {tuple(own[name].shape)}")


def half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Floating tensors in fp16, for files that are committed or downloaded."""
    return {
        name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()
    }
