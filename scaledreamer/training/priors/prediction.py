"""What a network predicts, turned into noise: the one place that knows eps, v, x_0, flow and learned variance."""

from typing import Literal, assert_never

from jaxtyping import Float
from torch import Tensor

from scaledreamer.training.priors.process import NoiseProcess, rows

Prediction = Literal["eps", "v", "x0", "flow", "learned-variance"]


def to_eps(
    kind: Prediction, predicted: Float[Tensor, "B K h w"], x_t: Float[Tensor, "B C h w"], t: Tensor,
    process: NoiseProcess,
) -> Float[Tensor, "B C h w"]:  # fmt: skip
    """The noise that a prediction at x_t = alpha x_0 + sigma eps says, float32.

    v = alpha eps - sigma x_0 (arXiv:2202.00512, where alpha^2 + sigma^2 = 1); flow = eps - x_0 (arXiv:2209.03003, where
    alpha + sigma = 1); a learned variance (arXiv:2102.09672) is the second half of the channels and is dropped.
    """
    predicted, x_t = predicted.float(), x_t.float()
    alpha, sigma = rows(process.alpha(t)), rows(process.sigma(t))
    match kind:
        case "eps":
            return predicted
        case "v":
            return alpha * predicted + sigma * x_t
        case "x0":
            return (x_t - alpha * predicted) / sigma
        case "flow":
            return x_t + alpha * predicted
        case "learned-variance":
            return predicted.chunk(2, dim=1)[0]
        case _:
            assert_never(kind)


def target_of(
    kind: Prediction, x_0: Float[Tensor, "B C h w"], noise: Float[Tensor, "B C h w"], t: Tensor, process: NoiseProcess
) -> Float[Tensor, "B C h w"]:
    """What a network of this kind should have said for x_t made of x_0 and noise; of a learned variance, the noise."""
    alpha, sigma = rows(process.alpha(t)), rows(process.sigma(t))
    match kind:
        case "eps" | "learned-variance":
            return noise
        case "v":
            return alpha * noise - sigma * x_0
        case "x0":
            return x_0
        case "flow":
            return noise - x_0
        case _:
            assert_never(kind)
