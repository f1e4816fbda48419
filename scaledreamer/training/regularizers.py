"""Losses on the rendering itself (official section 6.4), each a mean or sum as published."""

from collections.abc import Callable

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from scaledreamer.config import Config
from scaledreamer.model.rendering.result import Rendering, Samples
from scaledreamer.training.schedules import AnySchedule, Scheduled, constant

OFF = constant(0.0)


class RegularizerConfig(Config):
    """Weights; a term whose weight is not positive at a step is not computed."""

    sparsity: Scheduled = OFF
    opaque: Scheduled = OFF
    eikonal: Scheduled = OFF
    orient: Scheduled = OFF
    z_variance: Scheduled = OFF
    smoothness: Scheduled = OFF  # of a lattice only


def sparsity(opacity: Float[Tensor, "B H W 1"]) -> Float[Tensor, ""]:
    """mean sqrt(opacity^2 + 0.01)."""
    return (opacity.square() + 0.01).sqrt().mean()


def opaque(opacity: Float[Tensor, "B H W 1"]) -> Float[Tensor, ""]:
    """Binary entropy of the opacity clamped to [0.001, 0.999]: pixels should be clear or full."""
    o = opacity.clamp(1e-3, 1 - 1e-3)
    return -(o * o.log() + (1 - o) * (1 - o).log()).mean()


def eikonal(gradient: Float[Tensor, "B N 3"]) -> Float[Tensor, ""]:
    """mean (|grad sdf| - 1)^2 over all samples (arXiv:2002.10099)."""
    slope: Tensor = gradient.norm(dim=-1)
    return (slope - 1).square().mean()


def orient(samples: Samples, opacity: Float[Tensor, "B H W 1"]) -> Float[Tensor, ""]:
    """Weights times squared normals that look away from the camera, over the pixels that see anything (Ref-NeRF)."""
    assert samples.weights is not None and samples.directions is not None
    normal = rearrange(samples.normal, "B (R S) C -> B R S C", R=samples.weights.shape[1])
    away = (normal * samples.directions[:, :, None]).sum(-1).clamp(min=0).square()
    total: Tensor = (samples.weights.detach() * away).sum()
    return total / (opacity > 0).sum().clamp(min=1)


def z_variance(rendering: Rendering) -> Float[Tensor, ""]:
    """Mean variance of the distance where a pixel is more than half opaque; zero where none is."""
    seen = rendering.opacity > 0.5
    return rendering.z_variance[seen].sum() / seen.sum().clamp(min=1)


def smoothness(samples: Samples) -> Float[Tensor, ""]:
    """Mean absolute second difference of the distance between neighbouring nodes of a lattice, in cells."""
    assert samples.nodes is not None
    x, y, z = samples.nodes
    sdf = rearrange(samples.sdf, "B (X Y Z) 1 -> B X Y Z", X=x, Y=y, Z=z)
    second = [
        sdf.diff(n=2, dim=axis).abs().mean() * (size / 2) for axis, size in zip((1, 2, 3), (x, y, z), strict=True)
    ]
    return second[0] + second[1] + second[2]


def regularize(
    config: RegularizerConfig, rendering: Rendering, step: int, steps: int
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """The weighted sum of the terms that are on at this step, and each term's value."""
    terms: dict[str, Callable[[], Tensor]] = {
        "sparsity": lambda: sparsity(rendering.opacity),
        "opaque": lambda: opaque(rendering.opacity),
        "eikonal": lambda: eikonal(rendering.samples.sdf_gradient),
        "orient": lambda: orient(rendering.samples, rendering.opacity),
        "z_variance": lambda: z_variance(rendering),
        "smoothness": lambda: smoothness(rendering.samples),
    }
    total, values = rendering.opacity.new_zeros(()), {}
    for name, term in terms.items():
        schedule: AnySchedule = getattr(config, name)
        weight = schedule.at(step, steps)
        if weight > 0:
            value = term()
            total = total + weight * value
            values[name] = float(value.detach())
    return total, values
