"""What score distillation losses share: one batch through the prior, guidance, and a gradient that acts as a loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never, cast

import torch
from jaxtyping import Float
from torch import Tensor

from scaledreamer.model.cameras import Camera
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.priors.process import NoiseProcess, rows

Told = Condition | Tensor  # a prior whose condition is one tensor may use it bare
Weight = Literal["sds", "uniform", "fantasia3d", "x0"]


@dataclass(frozen=True)
class Distilled:
    """A loss whose gradient with respect to x_0 is the distillation gradient divided by the number of rows."""

    loss: Float[Tensor, ""]
    stats: dict[str, float]


@dataclass(frozen=True)
class Negative:
    """Texts to move away from (Perp-Neg): one condition and one weight a row; weights are negative to push away."""

    cond: Condition
    weight: Float[Tensor, " B"]


def weight_at(process: NoiseProcess, t: Tensor, kind: Weight) -> Float[Tensor, " B"]:
    """w(t): sds sigma^2, uniform 1, fantasia3d alpha sigma^2, x0 sigma / max(alpha, 0.1) (makes x_0 the unit)."""
    alpha, sigma = process.alpha(t), process.sigma(t)
    match kind:
        case "sds":
            return sigma.square()
        case "uniform":
            return torch.ones_like(sigma)
        case "fantasia3d":
            return alpha * sigma.square()
        case "x0":
            return sigma / alpha.clamp(min=0.1)
        case _:
            assert_never(kind)


def every_row(value: Tensor, count: int) -> Tensor:
    """A time a row from one time, one a prompt, or one a row."""
    value = torch.as_tensor(value).reshape(-1)
    if count % len(value):
        raise ValueError(f"{len(value)} times do not share out over {count} rows; give one, one a prompt or one a row")
    return value.repeat_interleave(count // len(value))


def every_view(cond: Told, count: int) -> Told:
    """A condition a row from one a prompt (views of a prompt are contiguous)."""
    if count % len(cond):
        raise ValueError(f"{len(cond)} conditions do not share out over {count} rows; give one a prompt or one a row")
    times = count // len(cond)
    return cond.repeat_interleave(times, 0) if isinstance(cond, Tensor) else cond.repeat(times)


def in_one_batch(conditions: Sequence[Told]) -> Told:
    """The rows of all conditions, one after the other."""
    if isinstance(conditions[0], Tensor):
        return torch.cat(cast(list[Tensor], conditions))
    first, *others = cast(list[Condition], conditions)
    return first.concatenate(*others)


@torch.no_grad()
def predict(
    prior: Prior,
    x_0: Float[Tensor, "B C h w"],
    noise: Float[Tensor, "B C h w"],
    asked: Sequence[tuple[Tensor, Told]],
    camera: Camera | None,
) -> list[Float[Tensor, "B C h w"]]:
    """The prior's noise for x_0 with the same noise at each (time, condition), all in one batch, group after group."""
    count = len(x_0)
    times = [every_row(t, count) for t, _ in asked]
    x_t = [prior.process.add_noise(x_0, noise, t) for t in times]
    cond = in_one_batch([every_view(cond, count) for _, cond in asked])
    cameras = None
    if camera is not None:
        repeats = len(asked)
        cameras = Camera(camera.c2w.repeat(repeats, 1, 1), camera.fovy.repeat(repeats))
    eps = prior.eps(torch.cat(x_t), torch.cat(times), cast(Condition, cond), cameras)
    return list(eps.float().chunk(len(asked)))


def perpendicular(a: Float[Tensor, "B C h w"], b: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """What of a is perpendicular to b, row by row (Perp-Neg, arXiv:2304.04968)."""
    dims = (1, 2, 3)
    along = (a * b).sum(dims, keepdim=True) / b.square().sum(dims, keepdim=True).clamp(min=1e-6)
    return a - along * b


def asked_at(
    t: Tensor, cond: Told, uncond: Told, guidance: float, negatives: Sequence[Negative] | None
) -> list[tuple[Tensor, Told]]:
    """What the guided prediction needs: text, nothing, then the negatives. At guidance 1 the text alone has a say."""
    if guidance == 1 and not negatives:
        return [(t, cond)]
    return [(t, cond), (t, uncond), *((t, negative.cond) for negative in negatives or ())]


def guide(
    prior: Prior, asked: Sequence[Float[Tensor, "B C h w"]], guidance: float, negatives: Sequence[Negative] | None,
    x_0: Float[Tensor, "B C h w"], noise: Float[Tensor, "B C h w"], t: Tensor, clamp_x0: float | None,
) -> Float[Tensor, "B C h w"]:  # fmt: skip
    """The guided noise from the answers to what `asked_at` lists.

    eps_null + guidance (delta + sum_i w_i perp(eps_i - eps_null, delta)) with delta = eps_text - eps_null
    (classifier-free guidance, arXiv:2207.12598; Perp-Neg, arXiv:2304.04968).
    """
    if len(asked) == 1:
        return clamp_to_x0(prior, asked[0], x_0, noise, t, clamp_x0)
    eps_text, eps_null, *eps_negative = asked
    direction = eps_text - eps_null
    for negative, eps in zip(negatives or (), eps_negative, strict=True):
        direction = direction + rows(negative.weight.to(eps)) * perpendicular(eps - eps_null, eps_text - eps_null)
    return clamp_to_x0(prior, eps_null + guidance * direction, x_0, noise, t, clamp_x0)


def clamp_to_x0(
    prior: Prior, eps: Float[Tensor, "B C h w"], x_0: Float[Tensor, "B C h w"], noise: Float[Tensor, "B C h w"],
    t: Tensor, limit: float | None,
) -> Float[Tensor, "B C h w"]:  # fmt: skip
    """The eps whose x_0 is that of `eps` clamped to [-limit, limit]: static thresholding (Imagen, arXiv:2205.11487)."""
    if limit is None:
        return eps
    alpha, sigma = rows(prior.process.alpha(t)), rows(prior.process.sigma(t))
    x_t = alpha * x_0 + sigma * noise
    believed = ((x_t - sigma * eps) / alpha.clamp(min=1e-4)).clamp(-limit, limit)
    return (x_t - alpha * believed) / sigma.clamp(min=1e-4)


def gradient_as_loss(x_0: Float[Tensor, "B C h w"], gradient: Float[Tensor, "B C h w"]) -> Float[Tensor, ""]:
    """|x_0 - stopgrad(x_0 - gradient)|^2 / 2B: its derivative with respect to x_0 is gradient / B."""
    target = (x_0 - gradient).detach()
    return 0.5 * (x_0 - target).square().sum() / len(x_0)


def finish(x_0: Float[Tensor, "B C h w"], gradient: Float[Tensor, "B C h w"], grad_clip: float | None) -> Distilled:
    """Replace what is not finite, clip each entry, and wrap."""
    gradient = torch.nan_to_num(gradient)
    if grad_clip is not None:
        gradient = gradient.clamp(-grad_clip, grad_clip)
    return Distilled(gradient_as_loss(x_0, gradient), {"sd_grad_norm": float(gradient.norm())})
