"""The options of small Triplane-Transformers; the official ones are held by the parity tests."""

import pytest
import torch
from einops import rearrange
from torch import Tensor

from scaledreamer.model.generators import TriplaneTransformer, TriplaneTransformerConfig
from scaledreamer.model.generators.triplane_transformer import GlobalBlock, LocalBlock, SummedPlanesConfig, blurred
from scaledreamer.model.text import TextEmbedding

SMALL = TriplaneTransformerConfig(
    width=32, text_width=16, layers=3, heads=2, low_res=4, plane_channels=4, upsample=(8,), film=True,
    identity_start=True, decoder=SummedPlanesConfig(hidden=8), radius=1.0, sphere_bias=0.5, color="sigmoid",
)  # fmt: skip


def build(**changes: object) -> TriplaneTransformer:
    torch.manual_seed(0)
    return TriplaneTransformer(SMALL.model_copy(update=changes))


def text(scenes: int = 2) -> TextEmbedding:
    rng = torch.Generator().manual_seed(0)
    pooled = torch.nn.functional.normalize(torch.randn(scenes, 16, generator=rng), dim=-1)
    return TextEmbedding(torch.randn(scenes, 3, 16, generator=rng), pooled)


@pytest.mark.parametrize("mode", ["local", "global"])
def test_an_identity_start_adds_nothing_and_still_learns(mode: str) -> None:
    generator = build(text=mode)
    tokens = torch.randn(2, 48, 32, generator=torch.Generator().manual_seed(1))
    context = torch.randn(2, 3 if mode == "local" else 1, 16 if mode == "local" else 32)
    for block in generator.blocks:
        assert isinstance(block, LocalBlock | GlobalBlock)
        assert torch.equal(block(tokens, context, None), tokens)
    generator.planes(text()).square().sum().backward()
    for block in generator.blocks:
        assert isinstance(block, LocalBlock | GlobalBlock)
        last = block.self_attention.to_out.weight
        assert last.grad is not None and float(last.grad.abs().max()) > 0


def share_of_place(planes: Tensor) -> float:
    """How much of the planes' variance between their 4 x 4 patches is not common to all of them."""
    patches = rearrange(planes, "B P C (H h) (W w) -> B P C h w (H W)", h=4, w=4)
    return float(patches.var(-1).mean() / patches.square().mean())


def test_an_identity_start_tells_places_apart() -> None:
    deep = {"layers": 8, "width": 96, "heads": 3, "low_res": 8}
    with torch.no_grad():
        plain = share_of_place(build(**deep, identity_start=False).planes(text()))
        identity = share_of_place(build(**deep).planes(text()))
    assert identity > 2 * plain, "the blocks' random branches drown the tokens' places"


def test_film_makes_the_prompt_matter_before_any_block_does() -> None:
    with torch.no_grad():
        with_film = build().planes(text())
        without = build(film=False).planes(text())
    assert not torch.allclose(with_film[0], with_film[1], atol=1e-3)
    assert torch.equal(without[0], without[1])
    assert with_film.shape == (2, 3, 4, 16, 16) and SMALL.high_res == 16


def test_a_blur_spreads_a_texel_and_keeps_what_is_even_or_straight() -> None:
    one = torch.zeros(1, 1, 7, 7)
    one[..., 3, 3] = 16
    spread = torch.tensor([1.0, 2.0, 1.0])
    assert torch.equal(blurred(one)[0, 0, 2:5, 2:5], spread[:, None] * spread), "[1 2 1] / 4 along both sides"
    assert float(blurred(one).sum()) == 16
    assert torch.equal(blurred(torch.full((1, 2, 5, 5), 0.3)), torch.full((1, 2, 5, 5), 0.3)), "also at the border"
    ramp = torch.arange(6.0).expand(1, 1, 6, 6)
    torch.testing.assert_close(blurred(ramp)[..., 1:-1], ramp[..., 1:-1])
    checkers = (torch.arange(6) % 2).float().expand(1, 1, 6, 6)
    torch.testing.assert_close(blurred(checkers)[..., 1:-1], torch.full((1, 1, 6, 4), 0.5))


def test_antialiased_planes_are_the_blurred_ones() -> None:
    with torch.no_grad():
        plain, smooth = build().planes(text()), build(antialias=True).planes(text())
    torch.testing.assert_close(smooth, blurred(plain.flatten(0, 1)).view_as(plain))
