"""Backgrounds: configs, text, and random colours in training."""

import pytest
import torch
from pydantic import TypeAdapter

from scaledreamer.model.cameras import turntable
from scaledreamer.model.generators import HyperNGP, HyperNGPConfig
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.rendering import (
    AnyBackgroundConfig,
    BackgroundConfig,
    HarmonicBackgroundConfig,
    HashGridBackgroundConfig,
    HyperBackground,
    HyperBackgroundConfig,
    LatticeConfig,
    PlainBackground,
    PlainBackgroundConfig,
    build_background,
    render,
)
from scaledreamer.model.text import TextEmbedding

GRID = HashGridConfig(levels=2, log2_entries=8, base=4, growth=1.5)
SMALL: list[AnyBackgroundConfig] = [
    PlainBackgroundConfig(color=(0.1, 0.2, 0.3)),
    HarmonicBackgroundConfig(random_color=0.5),
    HashGridBackgroundConfig(grid=GRID),
    HyperBackgroundConfig(text_width=16, width=8, grid=GRID, hidden=8, random_color=0.5),
]
every_background = pytest.mark.parametrize("config", SMALL, ids=lambda config: config.kind)


def text(scenes: int) -> TextEmbedding:
    rng = torch.Generator().manual_seed(0)
    return TextEmbedding(torch.randn(scenes, 3, 16, generator=rng), torch.randn(scenes, 16, generator=rng))


def directions(pictures: int) -> torch.Tensor:
    drawn = torch.randn(pictures, 4, 5, 3, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.normalize(drawn, dim=-1)


@every_background
def test_a_config_comes_back_from_plain_values_and_builds_its_background(config: AnyBackgroundConfig) -> None:
    adapter: TypeAdapter[AnyBackgroundConfig] = TypeAdapter(BackgroundConfig)
    assert adapter.validate_python(config.model_dump(mode="json")) == config
    colors = build_background(config).for_text(text(2))(directions(6))
    assert colors.shape == (6, 4, 5, 3) and bool(((colors >= -0.001) & (colors <= 1.001)).all())


@every_background
def test_gradients_reach_every_parameter(config: AnyBackgroundConfig) -> None:
    torch.manual_seed(0)
    background = build_background(config)
    silent = list(background.named_parameters())
    if silent:
        background.for_text(text(2))(directions(40)).square().sum().backward()
    assert [name for name, p in silent if p.grad is None or not bool(p.grad.any())] == []


def test_a_plain_background_has_its_colour_everywhere() -> None:
    assert torch.allclose(build_background(SMALL[0])(directions(2))[1, 2, 3], torch.tensor([0.1, 0.2, 0.3]))


@torch.no_grad()
def test_every_prompt_has_its_own_world_behind_all_its_views() -> None:
    torch.manual_seed(0)
    background = build_background(SMALL[3])
    background.load_state_dict({k: v + 0.3 * torch.randn_like(v) for k, v in background.state_dict().items()})
    prompts, ways = text(2), directions(6)
    together = background.for_text(prompts)(ways)
    for scene in range(2):
        views = slice(3 * scene, 3 * scene + 3)
        assert torch.allclose(background.for_text(prompts[scene : scene + 1])(ways[views]), together[views], atol=1e-6)
    same = background.for_text(prompts)(ways[:1].expand(6, -1, -1, -1))
    assert torch.equal(same[0], same[2]) and not torch.allclose(same[0], same[3], atol=1e-3)


def test_a_background_of_text_asks_for_it() -> None:
    with pytest.raises(ValueError, match="for_text"):
        build_background(SMALL[3])(directions(2))


@torch.no_grad()
def test_training_replaces_whole_pictures_by_one_colour_about_as_often_as_asked(rng: torch.Generator) -> None:
    background = build_background(HashGridBackgroundConfig(grid=GRID, random_color=0.25))
    colors = background(directions(400), rng)
    plain = (colors == colors[:, :1, :1]).flatten(1).all(1)
    assert 0.18 < float(plain.float().mean()) < 0.32
    assert float(colors[plain].std(0).min()) > 0.2, "colours differ from picture to picture"


@torch.no_grad()
def test_the_renderer_puts_a_prompt_s_background_behind_its_field() -> None:
    torch.manual_seed(0)
    prompts = text(2)
    field = HyperNGP(HyperNGPConfig(text_width=16, width=8, grid=GRID, hidden=8, radius=1.0))(prompts)
    background = build_background(SMALL[3])
    assert isinstance(background, HyperBackground)
    cameras = turntable(4)
    seen = render(field, cameras, background.for_text(prompts), 8, LatticeConfig(nodes=8, samples=8))
    assert torch.allclose(seen.rgb, seen.foreground + seen.background * (1 - seen.opacity))
    assert not torch.equal(seen.background, render(field, cameras, PlainBackground(), 8, LatticeConfig()).background)
