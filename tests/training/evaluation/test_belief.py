"""The gate in numbers, on a prior that knows the answer."""

import pytest
import torch

from scaledreamer.model.cameras import turntable
from scaledreamer.model.text import TextEmbedding, TextEncoder
from scaledreamer.training.evaluation import belief
from scaledreamer.training.priors import props
from scaledreamer.training.priors.process import Cosine, rows
from scaledreamer.training.priors.props import PropsPrior
from scaledreamer.training.priors.uvit import MultiViewUViT, UViTConfig
from scaledreamer.training.props.world import Prop


class SameWords(TextEncoder):
    """Every prompt is the same vector."""

    @property
    def name(self) -> str:
        return "same"

    def encode(self, prompts: list[str]) -> TextEmbedding:
        count = len(prompts)
        return TextEmbedding(torch.zeros(count, 2, 8), torch.ones(count, 8), torch.ones(count, 2).bool())

    def overflow(self, prompt: str) -> int:
        return 0


def test_a_prior_that_draws_the_truth_is_not_biased(monkeypatch: pytest.MonkeyPatch, rng: torch.Generator) -> None:
    prior = PropsPrior(MultiViewUViT(UViTConfig(stem=8, width=12, depth=1, heads=1, text_width=8)), SameWords())
    camera, process = turntable(4), Cosine()
    true = belief.true_pictures(Prop("mug", "red"), camera, 32, rng)
    assert true.shape == (belief.TRUTHS, 4, 4, 32, 32) and true.min() >= -1 and true.max() <= 1

    def oracle(network: object, x_t: torch.Tensor, t: torch.Tensor, *_: object) -> torch.Tensor:
        return (rows(process.alpha(t)) * x_t - true[0]) / rows(process.sigma(t))

    monkeypatch.setattr(props, "predict_v", oracle)
    found = belief.belief(prior, true[1], 0.9, "a mug", camera, rng)
    assert torch.allclose(found, true[0], atol=1e-5)


def test_an_untrained_prior_is_further_from_the_truth_than_the_truths_from_each_other(rng: torch.Generator) -> None:
    torch.manual_seed(0)
    prior = PropsPrior(MultiViewUViT(UViTConfig(stem=8, width=12, depth=1, heads=1, text_width=8)), SameWords())
    spread, *biases = belief.measure(prior, "table", rng)
    assert 0.002 < spread < 0.02 < biases[0], "of an untrained prior nothing but the noised picture comes back"
    assert biases == sorted(biases, reverse=True), "which is nearer to the truth at earlier times"
