"""The gate: what a prior believes in one step, for priors of pixels and of latents, of one view and of four."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from scaledreamer.model.cameras import Camera, turntable
from scaledreamer.training.evaluation.gate import TIMES, ball, belief, gate, load
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.priors.mvdream import MVDreamPrior
from scaledreamer.training.priors.process import Cosine, rows
from scaledreamer.training.props.world import FIRST
from tests.training.priors import tiny


class Knows(Prior):
    """Believes in one colour whatever it is shown."""

    views, process = 2, Cosine()

    def embed(self, prompts: list[str]) -> Condition:
        return Condition(torch.zeros(len(prompts), 1, 1))

    def encode(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
        return 2 * images - 1

    def eps(self, x_t: Tensor, t: Tensor, cond: Condition, camera: Camera | None = None) -> Tensor:
        alpha, sigma = rows(self.process.alpha(t)), rows(self.process.sigma(t))
        return (x_t - alpha * 0.25) / sigma


@pytest.mark.parametrize("t", TIMES)
def test_a_prior_that_knows_the_answer_believes_in_it(t: float, rng: torch.Generator) -> None:
    prior = Knows()
    shown, nothing = torch.rand(2, 3, 8, 8, generator=rng), prior.embed([""])
    believed = belief(prior, shown, t, nothing, nothing, turntable(2), rng)
    assert torch.allclose(believed, torch.tensor(0.25), atol=1e-4)


def test_the_ball_is_lit_and_round() -> None:
    shown = ball("green", turntable(2), 64)
    share = float(shown[:, 3].mean())
    assert 0.1 < share < 0.25 and float(shown[:, 1].max()) > 0.3
    assert float(shown[:, :3][shown[:, 3:].expand(-1, 3, -1, -1) == 0].abs().max()) == 0


@pytest.mark.parametrize("views", [1, 4])
def test_a_diffusers_folder_is_looked_at_as_what_it_is(views: int, tmp_path: Path) -> None:
    prior = load(tiny.write_mvdream(tmp_path) if views == 4 else tiny.write_sd(tmp_path))
    assert isinstance(prior, MVDreamPrior) == (views == 4)
    image = gate(prior, views=2, pixels=16)
    assert image.height % len(FIRST.kinds) == 0 and image.width > image.height / len(FIRST.kinds) * len(TIMES)
