"""A palette: a prompt's colours, and planes that say which of them is where."""

import pytest
import torch
from pydantic import ValidationError

from scaledreamer.model.fields.decoders import SummedPlanes
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.generators import TriplaneTransformer
from scaledreamer.model.generators.triplane_transformer import SummedPlanesConfig, TriplaneTransformerConfig
from scaledreamer.model.text import TextEmbedding

CONFIG = TriplaneTransformerConfig(
    width=8, text_width=12, layers=1, heads=2, low_res=2, plane_channels=4, film=True, radius=1.0, palette=5,
    decoder=SummedPlanesConfig(hidden=8, gain=0.1), sphere_bias=0.55, color="sigmoid",
)  # fmt: skip


def text(count: int, mask: torch.Tensor | None = None) -> TextEmbedding:
    torch.manual_seed(1)
    return TextEmbedding(torch.randn(count, 3, 12), torch.nn.functional.normalize(torch.randn(count, 12), dim=-1), mask)


def made(count: int) -> TriplaneField:
    torch.manual_seed(0)
    field = TriplaneTransformer(CONFIG)(text(count))
    assert isinstance(field, TriplaneField) and field.palette is not None
    return field


@torch.no_grad()
def test_every_colour_lies_between_those_of_its_scene_s_palette() -> None:
    field = made(2)
    torch.nn.init.normal_(field.decoder.out.weight, std=3)  # type: ignore[union-attr]
    rgb = field.query(torch.rand(2, 200, 3) * 2 - 1).rgb
    assert field.palette is not None and field.palette.shape == (2, 5, 3)
    assert (rgb <= field.palette.amax(1, keepdim=True) + 1e-6).all()
    assert (rgb >= field.palette.amin(1, keepdim=True) - 1e-6).all()
    assert not torch.allclose(field.palette[0], field.palette[1]), "prompts have palettes of their own"


@torch.no_grad()
def test_more_contrast_mixes_fewer_colours_and_leaves_the_order() -> None:
    field = made(1)
    decoder = field.decoder
    assert isinstance(decoder, SummedPlanes)
    torch.nn.init.normal_(decoder.out.weight)
    readings = torch.randn(1, 3, 4, 200)
    mixed = decoder.color_of(readings)
    decoder.contrast = 4.0
    clear = decoder.color_of(readings)
    assert torch.equal(mixed.argmax(-1), clear.argmax(-1))
    assert (clear.amax(-1) >= mixed.amax(-1)).all() and clear.amax(-1).mean() > mixed.amax(-1).mean() + 0.1


@torch.no_grad()
def test_a_lattice_and_one_scene_of_many_are_painted_alike() -> None:
    field = made(3)
    axis = torch.linspace(-0.9, 0.9, 5)
    nodes = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(1, -1, 3)
    torch.testing.assert_close(field.lattice(axis, axis, axis).rgb[1:2], field[1].query(nodes).rgb)


@torch.no_grad()
def test_what_the_mask_hides_says_nothing_of_a_colour() -> None:
    torch.manual_seed(0)
    generator = TriplaneTransformer(CONFIG)
    one = text(1, torch.tensor([[True, True, False]]))
    other = TextEmbedding(one.tokens.clone(), one.pooled, one.mask)
    other.tokens[:, 2] = 7
    assert generator.palette is not None
    assert torch.equal(generator.palette(one), generator.palette(other))


def test_the_palette_learns_from_a_picture_of_colours_alone() -> None:
    torch.manual_seed(0)
    generator = TriplaneTransformer(CONFIG)
    generator(text(1)).query(torch.zeros(1, 1, 3)).rgb.sum().backward()
    assert generator.palette is not None and generator.palette.queries.grad is not None
    assert float(generator.palette.queries.grad.abs().sum()) > 0


def test_a_palette_without_the_decoder_that_shares_it_out_is_refused() -> None:
    with pytest.raises(ValidationError, match="a palette of 5 needs the decoder of kind summed"):
        TriplaneTransformerConfig(**(CONFIG.model_dump() | {"decoder": {"kind": "separate"}}))
