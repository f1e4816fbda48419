"""The prior interface: a frozen denoiser with its own noise process. Losses see nothing else of a model."""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scaledreamer.model.cameras import Camera
from scaledreamer.training.priors.prediction import Prediction, to_eps
from scaledreamer.training.priors.process import NoiseProcess


@dataclass(frozen=True)
class Condition:
    """What a prior is told, a row a prompt: a sequence, and (where the model has them) its mask and pooled vector."""

    tokens: Float[Tensor, "B L D"]
    pooled: Float[Tensor, "B E"] | None = None
    mask: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: slice | Tensor | list[int]) -> Self:
        return self._each(lambda tensors: tensors[0][index], self)

    def repeat(self, times: int) -> Self:
        """Every row `times` times in place: prompts become prompts x views, views contiguous."""
        return self._each(lambda tensors: tensors[0].repeat_interleave(times, 0), self)

    def concatenate(self, *others: Self) -> Self:
        """These rows, then those of the others."""
        return self._each(torch.cat, self, *others)

    @classmethod
    def _each(cls, function, *conditions: Self) -> Self:  # type: ignore[no-untyped-def]
        columns: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(condition, field.name) for condition in conditions]
            columns[field.name] = None if values[0] is None else function(values)
        return cls(**columns)


class Prior(ABC):
    """A frozen multi-view (or single-view) diffusion model. A batch is prompts x views, views contiguous."""

    process: NoiseProcess
    views: int
    channels: int = 3  # of the pictures it judges: 3 colour, 4 colour and opacity
    negative_prompt: str = ""  # the text of the unconditional branch

    @abstractmethod
    def embed(self, prompts: list[str]) -> Condition:
        """One row a prompt."""

    @abstractmethod
    def encode(self, images: Float[Tensor, "B K H W"], rng: torch.Generator | None = None) -> Float[Tensor, "B C h w"]:
        """Pictures in [0, 1] with `channels` channels to latents, with gradient.

        Where encoding is random, a sample drawn from `rng`, the mean without it.
        """

    def decode(self, x_0: Float[Tensor, "B C h w"]) -> Float[Tensor, "B K H W"]:
        """Latents to pictures in [0, 1], to look at. Here for priors of pixels in [-1, 1]."""
        return ((x_0 + 1) / 2).clamp(0, 1)

    @abstractmethod
    def eps(
        self, x_t: Float[Tensor, "B C h w"], t: Tensor, cond: Condition, camera: Camera | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Predicted noise, float32, without gradient; times and conditions may differ from row to row."""


class NetworkPrior(Prior):
    """A prior made of one network with a declared kind of prediction."""

    network: nn.Module  # frozen
    prediction: Prediction

    @abstractmethod
    def call(
        self, network: nn.Module, x_t: Float[Tensor, "B C h w"], t: Tensor, cond: Condition, camera: Camera | None
    ) -> Float[Tensor, "B K h w"]:
        """What `network`, the prior's own or a copy of it, predicts: float32, with gradient."""

    def copy_for_renders(self) -> nn.Module:
        """A copy that shares the frozen weights and is told the camera: what VSD adapts to the renders."""
        return share(self.network)

    @torch.no_grad()
    def eps(
        self, x_t: Float[Tensor, "B C h w"], t: Tensor, cond: Condition, camera: Camera | None = None
    ) -> Float[Tensor, "B C h w"]:
        return to_eps(self.prediction, self.call(self.network, x_t, t, cond, camera), x_t, t, self.process)


def share(network: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers are the very tensors of the original."""
    kept: dict[int, Any] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, kept)


def whole_sets(rows: int, views: int) -> None:
    """Refuse a batch that breaks a view set."""
    if rows % views:
        raise ValueError(f"{rows} pictures are no whole sets of {views} views; give prompts x {views} pictures")
