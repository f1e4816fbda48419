"""Noise processes: x_t = alpha(t) x_0 + sigma(t) noise, each in its own time domain, and ASD's later time."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor


class NoiseProcess(ABC):
    """How a prior adds noise. Times are integer tensors (0 .. T - 1) or floats in (0, 1), one a sample."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale at t, float32, same shape as t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale at t, float32, same shape as t."""

    @abstractmethod
    def shift(self, t: Tensor, ratio: float, t_min: float, rng: torch.Generator | None = None) -> Tensor:
        """ASD's later time t + ratio (t - t_min) u (arXiv:2407.02040, Eq. 9); u ~ U[0, 1) from `rng`, 1 without it."""

    def time(self, fraction: float) -> float:
        """The time at a fraction of the range."""
        return fraction

    def draw(self, t_min: float, t_max: float, count: int, rng: torch.Generator) -> Tensor:
        """`count` times, uniform between two fractions of the whole range."""
        return t_min + (t_max - t_min) * torch.rand(count, generator=rng)

    def add_noise(
        self, x_0: Float[Tensor, "B C h w"], noise: Float[Tensor, "B C h w"], t: Tensor
    ) -> Float[Tensor, "B C h w"]:
        """x_t for one time a sample."""
        return rows(self.alpha(t)) * x_0 + rows(self.sigma(t)) * noise


def rows(scale: Tensor) -> Tensor:
    """One number a sample, ready to multiply images."""
    return scale[:, None, None, None]


class Discrete(NoiseProcess):
    """Variance preserving over T integer steps from a table of cumulative alphas (DDPM, arXiv:2006.11239)."""

    def __init__(self, alphas_cumprod: Float[Tensor, " T"]) -> None:
        self.alphas_cumprod = alphas_cumprod.float()
        self.signal = self.alphas_cumprod.sqrt()
        self.noise = (1 - self.alphas_cumprod).sqrt()

    @property
    def steps(self) -> int:
        """T, 1000 for Stable Diffusion and MVDream."""
        return len(self.alphas_cumprod)

    def alpha(self, t: Tensor) -> Tensor:
        t = torch.as_tensor(t).long()
        return self.signal.to(t.device)[t]

    def sigma(self, t: Tensor) -> Tensor:
        t = torch.as_tensor(t).long()
        return self.noise.to(t.device)[t]

    def shift(self, t: Tensor, ratio: float, t_min: float, rng: torch.Generator | None = None) -> Tensor:
        t = torch.as_tensor(t).long()
        delta = (ratio * (t - t_min).float()).clamp(min=0)
        delta = torch.minimum(delta, (self.steps - t - 1).float())
        if rng is not None:
            delta = delta * torch.rand(t.shape, generator=rng).to(delta.device)
        return (t + delta.long()).clamp(1, self.steps - 1)

    def time(self, fraction: float) -> float:
        return int(self.steps * fraction)

    def draw(self, t_min: float, t_max: float, count: int, rng: torch.Generator) -> Tensor:
        low, high = int(self.steps * t_min), min(int(self.steps * t_max), self.steps - 1)
        return torch.randint(low, high + 1, (count,), generator=rng)


def scaled_linear(steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> Discrete:
    """The schedule of Stable Diffusion and MVDream: betas are squares of an even grid, computed in float64."""
    betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    return Discrete(torch.cumprod(1 - betas, 0).float())


class Cosine(NoiseProcess):
    """Variance preserving with alpha = cos(pi t / 2), sigma = sin(pi t / 2) for continuous t in (0, 1)."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(t * (math.pi / 2))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(t * (math.pi / 2))

    def shift(self, t: Tensor, ratio: float, t_min: float, rng: torch.Generator | None = None) -> Tensor:
        return later(t, ratio, t_min, rng)


class Flow(NoiseProcess):
    """The straight line x_t = (1 - s) x_0 + s noise (rectified flow, arXiv:2209.03003) for continuous t in (0, 1).

    s = k t / (1 + (k - 1) t): large pictures need more noise to hide, so k > 1 moves times towards it (SD3,
    arXiv:2403.03206, Eq. 23; k = 3 for SD3 at 1024 pixels).
    """

    def __init__(self, resolution_shift: float = 1.0) -> None:
        self.resolution_shift = resolution_shift

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - self.sigma(t)

    def sigma(self, t: Tensor) -> Tensor:
        k = self.resolution_shift
        return k * t / (1 + (k - 1) * t)

    def shift(self, t: Tensor, ratio: float, t_min: float, rng: torch.Generator | None = None) -> Tensor:
        return later(t, ratio, t_min, rng)


LATEST = 0.999  # of a continuous time: beyond it nothing of the signal is left and v says nothing


def later(t: Tensor, ratio: float, t_min: float, rng: torch.Generator | None) -> Tensor:
    """`NoiseProcess.shift` of a continuous time; never later than LATEST, never earlier than t."""
    delta = (ratio * (t - t_min)).clamp(min=0)
    if rng is not None:
        delta = delta * torch.rand(t.shape, generator=rng).to(delta.device)
    return torch.minimum(t + delta, t.clamp(min=LATEST))
