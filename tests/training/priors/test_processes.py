"""Noise processes and predictions: five ways to say the same thing give the same loss."""

from typing import Any

import pytest
import torch
from fixtures import error, fixture
from torch import Tensor, nn

from scaledreamer.model.cameras import Camera
from scaledreamer.training.distillation import asd
from scaledreamer.training.priors.base import Condition, NetworkPrior
from scaledreamer.training.priors.prediction import Prediction, target_of, to_eps
from scaledreamer.training.priors.process import LATEST, Cosine, Flow, NoiseProcess, rows, scaled_linear

MEAN, SPREAD = 0.4, 0.3


class Gaussian(NetworkPrior):
    """The exact denoiser of x_0 ~ N(mean of the text, SPREAD^2), in the words of one kind of prediction."""

    views = 1

    def __init__(self, process: NoiseProcess, prediction: Prediction) -> None:
        self.network, self.process, self.prediction = nn.Identity(), process, prediction

    def embed(self, prompts: list[str]) -> Condition:
        return Condition(torch.tensor([[[MEAN if prompt else 0.0]] for prompt in prompts]))

    def encode(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
        return images

    def call(self, network: nn.Module, x_t: Tensor, t: Tensor, cond: Condition, camera: Camera | None) -> Tensor:
        alpha, sigma = rows(self.process.alpha(t)), rows(self.process.sigma(t))
        eps = sigma * (x_t - alpha * cond.tokens[:, :1, :1, None]) / (alpha**2 * SPREAD**2 + sigma**2)
        said = target_of(self.prediction, (x_t - sigma * eps) / alpha, eps, t, self.process)
        return torch.cat([said, said * 7], 1) if self.prediction == "learned-variance" else said


def gradient(prior: NetworkPrior, t: Tensor, later: Tensor) -> Tensor:
    x_0, noise = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).unbind()
    x_0.requires_grad_()
    text, nothing = prior.embed(["a mug"]), prior.embed([""])
    result = asd(prior, x_0, text, nothing, noise=noise, t=t, t_shifted=later, guidance=7.5, weight="uniform")
    return torch.autograd.grad(result.loss, x_0)[0]


@pytest.mark.parametrize("prediction", ["v", "x0", "learned-variance"])
@pytest.mark.parametrize("process", [Cosine(), scaled_linear()], ids=["cosine", "discrete"])
def test_every_prediction_gives_the_gradient_of_eps(prediction: Prediction, process: NoiseProcess) -> None:
    t, later = (torch.as_tensor([process.time(fraction)] * 2) for fraction in (0.5, 0.6))
    expected = gradient(Gaussian(process, "eps"), t, later)
    assert error(gradient(Gaussian(process, prediction), t, later), expected) < 1e-5


@pytest.mark.parametrize("prediction", ["eps", "flow", "x0"])
def test_a_flow_prior_at_the_same_signal_to_noise_gives_the_gradient_of_the_cosine_prior(
    prediction: Prediction,
) -> None:
    """x_t of the straight line is x_t of the circle over (alpha + sigma), and the noise in it is the same."""
    cosine, flow = Cosine(), Flow(resolution_shift=3.0)
    t, later = torch.tensor([0.3, 0.5]), torch.tensor([0.4, 0.9])

    def matching(times: Tensor) -> Tensor:
        s = cosine.sigma(times) / (cosine.alpha(times) + cosine.sigma(times))
        return s / (flow.resolution_shift - (flow.resolution_shift - 1) * s)

    assert torch.allclose(flow.alpha(matching(t)) / flow.sigma(matching(t)), cosine.alpha(t) / cosine.sigma(t))
    expected = gradient(Gaussian(cosine, "v"), t, later)
    assert error(gradient(Gaussian(flow, prediction), matching(t), matching(later)), expected) < 1e-5


def test_the_noise_of_a_gaussian_prior_is_its_analytic_score() -> None:
    """eps = -sigma d log p_t / dx."""
    process, t = Cosine(), torch.tensor([0.37])
    prior = Gaussian(process, "v")
    x_t = torch.linspace(-2, 2, 9)[None, None, None].requires_grad_()
    variance = process.alpha(t) ** 2 * SPREAD**2 + process.sigma(t) ** 2
    log_p = -((x_t - process.alpha(t) * MEAN) ** 2 / (2 * variance)).sum()
    (score,) = torch.autograd.grad(log_p, x_t)
    assert error(prior.eps(x_t.detach(), t, prior.embed(["a mug"])), -process.sigma(t) * score) < 1e-5


@pytest.mark.parametrize(
    ("prediction", "process"),
    [("eps", Cosine()), ("v", Cosine()), ("x0", Cosine()), ("learned-variance", scaled_linear()), ("flow", Flow(3.0))],
)
def test_a_perfect_prediction_says_the_noise_that_was_drawn(
    prediction: Prediction, process: NoiseProcess, rng: torch.Generator
) -> None:
    x_0, noise = torch.randn(2, 4, 3, 5, 5, generator=rng).unbind()
    t = process.draw(0.1, 0.9, 4, rng)
    said = target_of(prediction, x_0, noise, t, process)
    if prediction == "learned-variance":
        said = torch.cat([said, said], 1)
    assert error(to_eps(prediction, said, process.add_noise(x_0, noise, t), t, process), noise) < 1e-5


def test_noising_and_v_equal_mvdreams() -> None:
    cases, _ = fixture("mvdream/schedule_cases")
    process, t, x_t = scaled_linear(), cases["t"], cases["x_t"]
    assert error(process.alphas_cumprod, cases["alphas_cumprod"]) < 1e-6
    assert error(process.add_noise(cases["x0"], cases["noise"], t), x_t) < 1e-6
    assert error(target_of("v", cases["x0"], cases["noise"], t, process), cases["v"]) < 1e-6
    assert error(to_eps("v", cases["v"], x_t, t, process), cases["eps_from_v"]) < 1e-6


def test_half_precision_predictions_are_turned_into_noise_in_float32() -> None:
    half = torch.ones(1, 1, 1, 1, dtype=torch.float16)
    found = to_eps("v", half, half, torch.tensor([0.5]), Cosine())
    assert found.dtype == torch.float32 and float(found) == pytest.approx(2**0.5, rel=1e-6)


def test_a_flow_s_resolution_shift_moves_times_towards_noise_and_keeps_the_ends() -> None:
    t = torch.tensor([0.0, 0.5, 1.0])
    assert Flow(3.0).sigma(t).tolist() == pytest.approx([0, 0.75, 1])
    assert torch.equal(Flow().sigma(t), t)


def test_a_later_time_stays_in_the_domain() -> None:
    t = torch.tensor([0.3, 0.9, 0.9995])
    assert Flow().shift(t, 0.5, 0.1).tolist() == pytest.approx([0.4, LATEST, 0.9995])
    process, rng = scaled_linear(), torch.Generator().manual_seed(0)
    drawn = process.draw(0.0, 1.0, 5000, rng)
    assert int(drawn.min()) == 0 and int(drawn.max()) == 999
    assert int(process.shift(drawn, 1.0, 0.0).max()) == 999


@pytest.mark.parametrize("t", [torch.tensor(500), torch.tensor([500.0]), torch.tensor([244], dtype=torch.uint8)])
def test_discrete_times_of_any_kind_are_read_as_steps(t: Any) -> None:
    process = scaled_linear()
    step = int(torch.as_tensor(t).reshape(-1)[0])
    assert float(process.alpha(t).reshape(-1)[0]) == float(process.signal[step])
    assert int(process.shift(t, 0.0, 20).reshape(-1)[0]) == step
