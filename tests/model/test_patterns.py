"""Patterns over the plane tokens: linear in the prompt, of their own at every place, part of the planes' gradient."""

import torch

from scaledreamer.model.generators import TriplaneTransformer
from scaledreamer.model.generators.triplane_transformer import SummedPlanesConfig, TriplaneTransformerConfig
from scaledreamer.model.text import TextEmbedding

CONFIG = TriplaneTransformerConfig(
    width=64, text_width=48, layers=1, heads=2, low_res=4, plane_channels=4, patterns=16, identity_start=True,
    radius=1.0, decoder=SummedPlanesConfig(hidden=8), sphere_bias=0.55, color="sigmoid",
)  # fmt: skip


def text(count: int) -> TextEmbedding:
    pooled = torch.nn.functional.normalize(torch.randn(count, 48), dim=-1)
    return TextEmbedding(torch.zeros(count, 2, 48), pooled, None)


@torch.no_grad()
def test_they_start_as_strong_as_the_tokens_and_differ_by_prompt_and_place() -> None:
    torch.manual_seed(0)
    generator = TriplaneTransformer(CONFIG)
    assert generator.patterns is not None
    made = generator.patterns(text(40))
    assert made.shape == (40, 3 * 16, 64)
    assert 0.5 < float(made.std()) < 2
    by_prompt, by_place = made.std(0).mean(), made.std(1).mean()
    assert min(float(by_prompt), float(by_place)) > 0.5 * float(made.std())


@torch.no_grad()
def test_a_prompt_between_two_has_the_pattern_between_theirs() -> None:
    torch.manual_seed(0)
    patterns = TriplaneTransformer(CONFIG).patterns
    assert patterns is not None
    two = text(2)
    half = TextEmbedding(two.tokens[:1], two.pooled.mean(0, keepdim=True), None)
    torch.testing.assert_close(patterns(half)[0], patterns(two).mean(0))


def test_a_first_block_that_adds_nothing_leaves_text_and_place_together_in_the_planes() -> None:
    """Without patterns an untrained generator of `identity_start` and no FiLM gives every prompt the same planes."""
    torch.manual_seed(0)
    two = text(2)
    plain = TriplaneTransformer(CONFIG.model_copy(update={"patterns": 0})).planes(two)
    assert torch.equal(plain[0], plain[1])
    planes = TriplaneTransformer(CONFIG).planes(two)
    assert float((planes[0] - planes[1]).detach().std(dim=(-1, -2)).min()) > 0.01
