"""The 2D toy: an exact prior, and where each loss is known to lead."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from scaledreamer.errors import ConfigError
from scaledreamer.training.cli import TOY, train
from scaledreamer.training.toy2d import (
    ASKED,
    MODES,
    SPREAD,
    TEXT,
    Method,
    MixturePrior,
    Outcome,
    Toy2DConfig,
    density,
    follow,
    run,
    summary,
)


@pytest.fixture(scope="module")
def outcomes() -> dict[Method, Outcome]:
    return run(Toy2DConfig(particles=128))


@pytest.mark.parametrize("prompt", [TEXT, ""])
def test_the_prior_s_noise_is_the_slope_of_its_density(prompt: str, rng: torch.Generator) -> None:
    prior, known = MixturePrior(), MODES[:ASKED] if prompt else MODES
    x_t = torch.randn(50, 2, 1, 1, generator=rng).requires_grad_()
    t = torch.rand(50, generator=rng)
    alpha, sigma = prior.process.alpha(t), prior.process.sigma(t)
    variance = (alpha * SPREAD) ** 2 + sigma**2
    squared = (x_t[:, None, :, 0, 0] - alpha[:, None, None] * known).square().sum(-1)
    log_p = torch.logsumexp(-squared / (2 * variance[:, None]), 1)
    (slope,) = torch.autograd.grad(log_p.sum(), x_t)
    expected = -sigma[:, None, None, None] * slope
    assert torch.allclose(prior.eps(x_t.detach(), t, prior.embed([prompt] * 50)), expected, atol=1e-5)


def test_the_asked_density_holds_one_unit_of_mass() -> None:
    axis = torch.linspace(-3, 3, 301)
    points = torch.cartesian_prod(axis, axis)
    assert float(density(points).sum()) * 0.02**2 == pytest.approx(1.0, abs=1e-3)


def test_asd_ends_at_the_modes_of_the_text_and_finds_both(outcomes: dict[Method, Outcome]) -> None:
    told = summary(outcomes["asd"])
    assert min(told["share_of_modes"][:ASKED]) > 0.3 and sum(told["share_of_modes"][ASKED:]) == 0
    assert told["spread_around_mode"] < 0.25
    assert told["mean"] == pytest.approx([0.9, 0.0], abs=0.15)


def test_vsd_spreads_as_the_text_s_modes_do(outcomes: dict[Method, Outcome]) -> None:
    told = summary(outcomes["vsd"])
    assert min(told["share_of_modes"][:ASKED]) > 0.4
    assert 0.5 * SPREAD < told["spread_around_mode"] < 1.3 * SPREAD


def test_sds_stays_between_the_modes_and_csd_runs_past_them(outcomes: dict[Method, Outcome]) -> None:
    """SDS follows its noise; CSD climbs p(text | x), which grows beyond every mode."""
    assert summary(outcomes["sds"])["spread_around_mode"] > 1.3 * summary(outcomes["asd"])["spread_around_mode"]
    assert summary(outcomes["csd"])["mean"][0] > 2


def test_gradients_of_asd_are_far_shorter_than_those_of_sds(outcomes: dict[Method, Outcome]) -> None:
    """The drawn noise cancels between the two times of ASD and stays in SDS."""
    lengths = {method: sum(outcome.gradient_norms) for method, outcome in outcomes.items()}
    assert lengths["asd"] < 0.2 * lengths["sds"]


def test_a_seed_is_a_run() -> None:
    config = Toy2DConfig(steps=5, particles=8)
    first, again = follow("vsd", config), follow("vsd", config)
    assert torch.equal(first.particles, again.particles) and first.gradient_norms == again.gradient_norms
    other = follow("vsd", config.model_copy(update={"seed": 1}))
    assert not torch.equal(first.particles, other.particles)


def test_the_command_writes_a_picture_and_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(TOY, ["steps=4", "particles=16"], tmp_path)
    facts = json.loads((tmp_path / "toy2d.json").read_text())
    assert list(facts["methods"]) == ["sds", "csd", "vsd", "asd"] and facts["config"]["steps"] == 4
    assert all(len(method["gradient_norms"]) == 4 for method in facts["methods"].values())
    with Image.open(tmp_path / "toy2d.png") as picture:
        assert picture.width > 800
    train(listing=True)
    assert TOY in capsys.readouterr().out.splitlines()
    with pytest.raises(ConfigError, match="stepz"):
        train(TOY, ["stepz=4"], tmp_path)
