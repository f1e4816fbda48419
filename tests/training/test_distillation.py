"""Losses with known answers: an exact prior, and identities between methods."""

import math

import pytest
import torch
from torch import Tensor

from scaledreamer.model.cameras import Camera
from scaledreamer.training.distillation import Negative, asd, csd, sds
from scaledreamer.training.distillation.base import weight_at
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.priors.process import Cosine, NoiseProcess, scaled_linear


class Gaussian(Prior):
    """The exact score of x_0 ~ N(m, s^2), m from the text: eps = sigma (x_t - alpha m) / (alpha^2 s^2 + sigma^2)."""

    views = 1

    def __init__(self, process: NoiseProcess, spread: float = 0.3) -> None:
        self.process, self.spread, self.calls = process, spread, 0

    def embed(self, prompts: list[str]) -> Condition:
        return Condition(torch.tensor([[[float(len(prompt))]] for prompt in prompts]) / 10)

    def encode(self, images: Tensor) -> Tensor:
        return images

    def eps(self, x_t: Tensor, t: Tensor, cond: Condition, camera: Camera | None = None) -> Tensor:
        self.calls += 1
        alpha, sigma = (scale[:, None, None, None] for scale in (self.process.alpha(t), self.process.sigma(t)))
        mean = cond.tokens[:, 0, 0][:, None, None, None]
        return sigma * (x_t - alpha * mean) / (alpha**2 * self.spread**2 + sigma**2)


def times(process: NoiseProcess, fraction: float, count: int = 3) -> Tensor:
    t = process.time(fraction)
    return torch.full((count,), t, dtype=torch.long if isinstance(t, int) else torch.float32)


def gradient(loss: Tensor, x_0: Tensor) -> Tensor:
    return torch.autograd.grad(loss, x_0)[0] * len(x_0)


@pytest.fixture(params=[Cosine(), scaled_linear()], ids=["cosine", "discrete"])
def prior(request: pytest.FixtureRequest) -> Gaussian:
    return Gaussian(request.param)


@pytest.fixture
def x_0() -> Tensor:
    return torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()


NOISE = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(1))


def test_without_shift_asd_is_csd_times_guidance_minus_one(prior: Gaussian, x_0: Tensor) -> None:
    text, null, t = prior.embed(["abc"] * 3), prior.embed([""]), times(prior.process, 0.6)
    ours = asd(prior, x_0, text, null, noise=NOISE, t=t, t_shifted=t, guidance=7.5)
    classifier = csd(prior, x_0, text, null, noise=NOISE, t=t, guidance=1.0)
    assert torch.allclose(gradient(ours.loss, x_0), 6.5 * gradient(classifier.loss, x_0), rtol=1e-4, atol=1e-6)


def test_without_shift_and_guidance_asd_has_no_gradient(prior: Gaussian, x_0: Tensor) -> None:
    text, null, t = prior.embed(["abc"] * 3), prior.embed([""]), times(prior.process, 0.6)
    ours = asd(prior, x_0, text, null, noise=NOISE, t=t, t_shifted=t, guidance=1.0)
    assert float(gradient(ours.loss, x_0).abs().max()) < 1e-6


def test_at_guidance_one_nothing_but_the_text_is_asked(prior: Gaussian, x_0: Tensor) -> None:
    text, t, later = prior.embed(["abc"] * 3), times(prior.process, 0.6), times(prior.process, 0.7)
    gradients = []
    for null in (prior.embed([""]), prior.embed(["something else"])):
        losses = [
            asd(prior, x_0, text, null, noise=NOISE, t=t, t_shifted=later, guidance=1.0),
            sds(prior, x_0, text, null, noise=NOISE, t=t, guidance=1.0),
        ]
        gradients.append([gradient(loss.loss, x_0) for loss in losses])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    nearly = asd(prior, x_0, text, prior.embed([""]), noise=NOISE, t=t, t_shifted=later, guidance=1.0 + 1e-6)
    assert torch.allclose(gradients[0][0], gradient(nearly.loss, x_0), atol=1e-5)


def test_sds_of_a_gaussian_has_its_exact_expectation(prior: Gaussian) -> None:
    """E over noise of (eps - noise) at x_0 = alpha sigma (x_0 - mean) / (alpha^2 spread^2 + sigma^2)."""
    rng = torch.Generator().manual_seed(2)
    x_0 = torch.full((20_000, 1, 1, 1), 0.9, requires_grad=True)
    noise = torch.randn(x_0.shape, generator=rng)
    t = times(prior.process, 0.5, 1)
    text = prior.embed(["abcd"])
    result = sds(prior, x_0, text, text, noise=noise, t=t, guidance=1.0, weight="uniform")
    alpha, sigma = float(prior.process.alpha(t)), float(prior.process.sigma(t))
    expected = alpha * sigma * (0.9 - 0.4) / (alpha**2 * 0.3**2 + sigma**2)
    assert float(gradient(result.loss, x_0).mean()) == pytest.approx(expected, abs=0.02)


def test_asd_descends_to_the_mean_of_the_text(prior: Gaussian) -> None:
    rng = torch.Generator().manual_seed(3)
    x = torch.zeros(8, 1, 2, 2, requires_grad=True)
    text, null = prior.embed(["abcdefgh"]), prior.embed([""])
    optimizer = torch.optim.Adam([x], lr=0.02)
    for _ in range(150):
        t = prior.process.draw(0.3, 0.9, 8, rng)
        later = prior.process.shift(t, 0.6, prior.process.time(0.02), rng)
        noise = torch.randn(x.shape, generator=rng)
        optimizer.zero_grad()
        asd(prior, x, text, null, noise=noise, t=t, t_shifted=later, guidance=1.0, weight="x0").loss.backward()
        optimizer.step()
    assert float(x.detach().mean()) == pytest.approx(0.8, abs=0.15)


def test_all_branches_go_through_the_prior_in_one_batch(prior: Gaussian, x_0: Tensor) -> None:
    text, null, t = prior.embed(["abc"]), prior.embed([""]), times(prior.process, 0.6)
    negatives = [Negative(prior.embed(["zz"] * 3), torch.full((3,), -0.5))]
    asd(prior, x_0, text, null, noise=NOISE, t=t, t_shifted=t, guidance=2.0, negatives=negatives)
    assert prior.calls == 1


def test_a_negative_parallel_to_the_text_changes_nothing(prior: Gaussian, x_0: Tensor) -> None:
    text, null, t = prior.embed(["abc"]), prior.embed([""]), times(prior.process, 0.6)
    plain = asd(prior, x_0, text, null, noise=NOISE, t=t, t_shifted=t, guidance=2.0)
    negatives = [Negative(prior.embed(["abcdef"] * 3), torch.full((3,), -0.5))]
    pushed = asd(prior, x_0, text, null, noise=NOISE, t=t, t_shifted=t, guidance=2.0, negatives=negatives)
    assert torch.allclose(gradient(plain.loss, x_0), gradient(pushed.loss, x_0), atol=1e-5)


def test_clamped_belief_keeps_the_target_in_range(prior: Gaussian, x_0: Tensor) -> None:
    """With the x0 weight SDS pulls towards the believed x_0, so a bounded belief bounds the target."""
    text, null, t = prior.embed(["a" * 80]), prior.embed([""]), times(prior.process, 0.6)
    result = sds(prior, x_0, text, null, noise=NOISE, t=t, guidance=5.0, weight="x0", clamp_x0=1.05)
    target = x_0.detach() - gradient(result.loss, x_0)
    assert float(target.abs().max()) < 1.05 + 1e-3


@pytest.mark.parametrize("loss", [asd, sds, csd])
def test_gradient_is_clipped_and_never_nan(loss: object, prior: Gaussian) -> None:
    x_0 = torch.tensor([math.nan, 1e30, 0.5, 0.1]).reshape(1, 4, 1, 1).requires_grad_()
    text, null, t = prior.embed(["abc"]), prior.embed([""]), times(prior.process, 0.6, 1)
    shifted = {"t_shifted": t} if loss is asd else {}
    result = loss(  # type: ignore[operator]
        prior, x_0, text, null, noise=torch.zeros(1, 4, 1, 1), t=t, guidance=3.0, grad_clip=0.25, **shifted
    )
    found = gradient(result.loss, x_0)[0, 1:]
    assert bool(found.isfinite().all())
    assert float(found.abs().max()) <= 0.25 + 1e-6


def test_weights_are_those_of_the_papers() -> None:
    process = scaled_linear()
    t = torch.tensor([20, 500, 980])
    alpha, sigma = process.alpha(t), process.sigma(t)
    assert torch.allclose(weight_at(process, t, "sds"), sigma**2, atol=1e-6)
    assert torch.allclose(weight_at(process, t, "fantasia3d"), alpha * sigma**2, atol=1e-6)
    assert torch.equal(weight_at(process, t, "uniform"), torch.ones(3))
    assert torch.allclose(weight_at(process, t, "x0"), sigma / alpha.clamp(min=0.1))


def test_conditions_that_do_not_share_out_are_refused(prior: Gaussian, x_0: Tensor) -> None:
    t = times(prior.process, 0.6)
    with pytest.raises(ValueError, match="2 conditions"):
        asd(prior, x_0, prior.embed(["a", "b"]), prior.embed([""]), noise=NOISE, t=t, t_shifted=t, guidance=1.0)


class Bare(Gaussian):
    """The same prior with a tensor for a condition."""

    def eps(self, x_t: Tensor, t: Tensor, cond: Condition, camera: Camera | None = None) -> Tensor:
        return super().eps(x_t, t, Condition(cond), camera)  # type: ignore[arg-type]


def test_a_bare_tensor_is_a_condition_too(x_0: Tensor) -> None:
    t, told = times(Cosine(), 0.6), torch.full((1, 1, 1), 0.3)
    ours = asd(Bare(Cosine()), x_0, told, told * 0, noise=NOISE, t=t, t_shifted=t, guidance=3.0)
    same = asd(
        Gaussian(Cosine()), x_0, Condition(told), Condition(told * 0), noise=NOISE, t=t, t_shifted=t, guidance=3.0
    )
    assert torch.equal(ours.loss, same.loss)
