"""Recorded inputs and outputs of the official implementation, and how close we must come (tests/parity/README.md)."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

PARITY = Path(__file__).parent / "parity"


def fixture(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and decoded metadata of a parity file."""
    with safe_open(PARITY / f"{name}.safetensors", framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    return tensors, metadata


def error(found: Tensor, expected: Tensor) -> float:
    """Largest absolute difference over max(1, largest expected value)."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    difference = (found.detach() - expected.detach()).abs().max()
    return float(difference) / max(1.0, float(expected.detach().abs().max()))


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
