"""The field interface: a function of space, B scenes at once, that says where matter is and what colour it has."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FieldSample:
    """What a field says at points."""

    sdf: Float[Tensor, "B N 1"]  # signed distance in object units, negative inside
    rgb: Float[Tensor, "B N 3"]  # sRGB-encoded; official colour activations may leave [0, 1] by 0.001


class Field(ABC):
    """B scenes in the cube [-bound, bound]^3 of object space (+Z up, front +X)."""

    bound: float

    @abstractmethod
    def query(self, points: Float[Tensor, "B N 3"]) -> FieldSample:
        """Signed distance and colour at points; outside the box the stored features read zero, nothing is clamped."""

    @abstractmethod
    def sdf(self, points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 1"]:
        """Signed distance alone."""

    @abstractmethod
    def __len__(self) -> int:
        """B, how many scenes."""

    @abstractmethod
    def __getitem__(self, index: int | slice) -> Self:
        """Some of the scenes; an integer gives a field of one scene."""
