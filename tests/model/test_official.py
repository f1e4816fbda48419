"""Official checkpoints: every released layout is read and written key by key."""

import json
from typing import Any

import pytest
import torch
from fixtures import PARITY
from torch import Tensor, nn

from scaledreamer.config import Config
from scaledreamer.errors import ConfigError, ModelFileError
from scaledreamer.model import official
from scaledreamer.model.generators import conv3d, hyper_ingp, prompt_ingp, triplane_transformer
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.official import triplane
from scaledreamer.model.rendering import HarmonicBackground, HashGridBackground, HyperBackground
from scaledreamer.model.text import TextEmbedding

OFFICIAL: dict[str, Any] = json.loads((PARITY / "official_state_dict_keys.json").read_text())
CONFIGS: dict[str, Config] = {
    "MG15_hyper_iNGP": hyper_ingp.OFFICIAL,
    "DF415_3dconv_net": conv3d.OFFICIAL,
    "CP100k_3dconv_net": conv3d.OFFICIAL_WIDE,
    "DL17k_triplane_transformer": triplane_transformer.OFFICIAL,
    "single_sd_nerf": prompt_ingp.OFFICIAL,
}


def on_meta(name: str) -> dict[str, Tensor]:
    """A full-size checkpoint without its numbers."""
    return {key: torch.empty(shape, device="meta") for key, shape in OFFICIAL[name]["shapes"].items()}


def shapes(state: dict[str, Tensor]) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items()}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_full_size_checkpoint_tells_its_config_and_is_written_back_with_the_same_keys(name: str) -> None:
    state = on_meta(name)
    generator, background = official.from_state_dict(state), official.background_from_state_dict(state)
    assert generator.config == CONFIGS[name]
    assert not generator.training
    assert count(generator) == OFFICIAL[name]["parameters"]["geometry"]
    assert count(background) == OFFICIAL[name]["parameters"]["background"]
    expected = {key: shape for key, shape in OFFICIAL[name]["shapes"].items() if ".estimator." not in key}
    assert shapes(official.to_state_dict(generator, background)) == expected


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("MG15_hyper_iNGP", {"radius": 2.0, "sphere_bias": 0.5, "color": "sigmoid"}),
        ("DF415_3dconv_net", {"radius": 2.0, "sphere_bias": 0.8, "color": "sigmoid", "noise": "random"}),
        ("CP100k_3dconv_net", {"radius": 2.0, "sphere_bias": 0.8, "color": "sigmoid", "noise": "random"}),
        ("DL17k_triplane_transformer", {"radius": 2.0, "sphere_bias": 0.8, "color": "sigmoid-mipnerf", "heads": 16}),
        ("single_sd_nerf", {"radius": 1.0, "blob": 10.0, "blob_radius": 0.5, "level": 25.0, "color": "sigmoid"}),
    ],
)
def test_what_shapes_cannot_tell_is_the_recipe_s(name: str, told: dict[str, Any]) -> None:
    assert told.items() <= official.from_state_dict(on_meta(name)).config.model_dump().items()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_prefix_geometry_may_be_missing(name: str) -> None:
    bare = {key.removeprefix("geometry."): value for key, value in on_meta(name).items() if key.startswith("geometry.")}
    assert official.from_state_dict(bare).config == CONFIGS[name]


def test_a_background_has_the_official_ways_of_its_model() -> None:
    harmonic = {
        name: official.background_from_state_dict(on_meta(name))
        for name in ("DL17k_triplane_transformer", "DF415_3dconv_net")
    }
    found = {name: (b.color, b.random_color) for name, b in harmonic.items() if isinstance(b, HarmonicBackground)}
    assert found == {
        "DL17k_triplane_transformer": ("sigmoid-mipnerf", 0.0), "DF415_3dconv_net": ("sigmoid", 0.5),
    }  # fmt: skip
    hyper = official.background_from_state_dict(on_meta("MG15_hyper_iNGP"))
    single = official.background_from_state_dict(on_meta("single_sd_nerf"))
    assert isinstance(hyper, HyperBackground) and hyper.config.random_color == 0.2
    assert isinstance(single, HashGridBackground) and single.config.random_color == 0.5


@pytest.mark.parametrize(
    "config",
    [
        conv3d.Conv3DConfig(text_width=8, noise_width=4, style_width=6, channels=(4, 3), voxel_channels=2, hidden=5),
        hyper_ingp.HyperNGPConfig(text_width=8, width=4, grid=HashGridConfig(levels=2, log2_entries=6), hidden=5),
        hyper_ingp.HyperNGPConfig(text_width=8, width=4, layers=2, grid=HashGridConfig(levels=2, log2_entries=6)),
        prompt_ingp.PromptNGPConfig(grid=HashGridConfig(levels=2, log2_entries=6), hidden=5),
        triplane_transformer.TriplaneTransformerConfig(
            width=32, text_width=8, layers=1, heads=2, low_res=2, plane_channels=3, text="global"
        ),
        triplane_transformer.TriplaneTransformerConfig(
            width=24, text_width=8, layers=1, heads=3, low_res=2, plane_channels=3, mlp_ratio=2.5, radius=1.5
        ),
    ],
    ids=lambda config: config.kind,
)
def test_weights_survive_the_way_there_and_back(config: Any) -> None:
    from scaledreamer.model.generators import build_generator

    torch.manual_seed(0)
    generator = build_generator(config)
    overrides = {"grid": config.grid} if hasattr(config, "grid") else {}
    overrides |= {"heads": config.heads} if hasattr(config, "heads") else {}
    state = official.to_state_dict(generator)
    again = official.from_state_dict(state, **overrides)
    assert again.config == config.model_copy(update={"bias_resolution": 8} if config.kind == "conv3d" else {})
    own, copied = generator.state_dict(), again.state_dict()
    assert own.keys() == copied.keys() and all(torch.equal(own[key], copied[key]) for key in own)
    assert {p.data_ptr() for p in again.parameters()}.isdisjoint(p.data_ptr() for p in generator.parameters())
    assert official.to_state_dict(again).keys() == state.keys()


def test_half_precision_weights_are_read_in_full() -> None:
    state = {key: value.half() for key, value in on_meta("MG15_hyper_iNGP").items()}
    assert {p.dtype for p in official.from_state_dict(state).parameters()} == {torch.float32}


def test_the_frozen_variance_is_a_sharpness_of_thirty() -> None:
    state = {"renderer.variance._inv_std": torch.tensor(0.340119)}
    assert official.sharpness_from_state_dict(state) == pytest.approx(30.0, abs=1e-3)
    with pytest.raises(ModelFileError, match="_inv_std"):
        official.sharpness_from_state_dict({})


def test_other_keys_are_refused_with_what_was_found() -> None:
    with pytest.raises(ModelFileError, match=r"encoder\.weight"):
        official.from_state_dict({"encoder.weight": torch.zeros(2, 2)})
    with pytest.raises(ModelFileError, match=r"\['state_dict'\]"):
        official.from_state_dict({"state_dict": torch.zeros(0)})
    with pytest.raises(ModelFileError, match=r"background.*encoder\.weight"):
        official.background_from_state_dict({"encoder.weight": torch.zeros(2, 2)})
    state = on_meta("DF415_3dconv_net") | {"geometry.space_generator.extra": torch.zeros(1)}
    with pytest.raises(ModelFileError, match=r"space_generator\.extra"):
        official.from_state_dict(state)


def test_what_shapes_cannot_tell_is_asked_for() -> None:
    state = on_meta("single_sd_nerf") | {"geometry.encoding.encoding.encoding.params": torch.zeros(8)}
    with pytest.raises(ModelFileError, match="grid=HashGridConfig"):
        official.from_state_dict(state)
    with pytest.raises(ModelFileError, match="4352 generated weights do not fit a hash grid of 10 features"):
        official.from_state_dict(on_meta("MG15_hyper_iNGP"), grid=HashGridConfig(levels=5))
    with pytest.raises(ConfigError, match="sphere_radius"):
        official.from_state_dict(on_meta("MG15_hyper_iNGP"), sphere_radius=1.0)


def hyper(**sizes: Any) -> hyper_ingp.HyperNGP:
    grid = HashGridConfig(levels=2, log2_entries=6)
    return hyper_ingp.HyperNGP(hyper_ingp.HyperNGPConfig(text_width=8, width=4, grid=grid, **sizes))


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"hidden": 7, "hidden_layers": 3}, {"hidden_layers": 3}),
        ({"sdf_hidden": (6,), "rgb_hidden": (6, 17)}, {"sdf_hidden": (6,), "rgb_hidden": (6, 17)}),
    ],
)
def test_generated_perceptrons_of_other_depths_are_read_when_they_are_said(
    sizes: dict[str, Any], said: dict[str, Any]
) -> None:
    generator = hyper(**sizes)
    again = official.from_state_dict(official.to_state_dict(generator), grid=generator.config.grid, **said)
    assert again.config == generator.config or again.config.sdf_hidden == (6,)
    text = TextEmbedding(torch.ones(2, 1, 8), torch.ones(2, 8))
    points = torch.rand(2, 5, 3)
    assert torch.equal(again(text).sdf(points), generator(text).sdf(points))


def test_the_box_in_a_file_is_its_radius_unless_told_otherwise() -> None:
    state = official.to_state_dict(hyper(radius=1.5))
    grid = HashGridConfig(levels=2, log2_entries=6)
    assert official.from_state_dict(state, grid=grid).config.radius == 1.5
    assert official.from_state_dict(state, grid=grid, radius=0.5).config.radius == 0.5


def test_a_harmonic_background_of_any_width_is_read() -> None:
    background = HarmonicBackground(hidden=(32,))
    state = {f"background.network.layers.{layer}.weight": background.network[layer].weight for layer in (0, 2)}
    again = official.background_from_state_dict({**state, triplane_mark(): torch.zeros(1)})
    look = torch.nn.functional.normalize(torch.rand(1, 2, 2, 3), dim=-1)
    assert torch.equal(again(look), background(look))


def triplane_mark() -> str:
    return f"geometry.{triplane.MARK}"
