"""Hyper-iNGP, the prompt-specific iNGP, and their backgrounds equal the official ones."""

from typing import Any

import torch
from fixtures import error, fixture, under
from torch import Tensor
from torch.nn import functional as F

from scaledreamer.model.fields.base import sdf_gradient
from scaledreamer.model.fields.density import DensityField, density_normal
from scaledreamer.model.fields.hash_grid import HashGridField
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.official import background_from_state_dict, from_state_dict
from scaledreamer.model.rendering import HarmonicBackground, HashGridBackground, HyperBackground
from scaledreamer.model.rendering.grid_backgrounds import GeneratedBackground
from scaledreamer.model.text import TextEmbedding

NAMES = {
    "n_levels": "levels", "n_features_per_level": "features", "log2_hashmap_size": "log2_entries",
    "base_resolution": "base", "per_level_scale": "growth",
}  # fmt: skip


def grid_config(official: dict[str, Any]) -> HashGridConfig:
    return HashGridConfig(**{NAMES[key]: value for key, value in official.items()})


def text(tensors: dict[str, Tensor]) -> TextEmbedding:
    return TextEmbedding(tensors["in/text_embed"][:, None], tensors["in/text_embed"])


@torch.no_grad()
def test_generated_weights_distances_colours_and_normals_equal_the_official_ones() -> None:
    tensors, meta = fixture("hyper_ingp")
    field = from_state_dict(under("sd/", tensors), grid=grid_config(meta["config"]["grid"]))(text(tensors))
    assert isinstance(field, HashGridField)
    for ours, theirs in ((field.sdf_weights, "sdf_weights"), (field.rgb_weights, "feature_weights")):
        for index, weight in enumerate(ours):
            assert error(weight, tensors[f"out/cache.{theirs}.{index}"]) < 2e-5
    points = tensors["in/points"]
    sample = field.query(points)
    gradient = sdf_gradient(field, points, sample.sdf)
    assert error(sample.sdf, tensors["out/sdf"]) < 2e-5
    assert error(field.sdf(points), tensors["out/sdf"]) < 2e-5
    assert error(sample.rgb, torch.sigmoid(tensors["out/features"])) < 2e-5
    assert error(gradient, tensors["out/sdf_grad"]) < 5e-3
    assert error(F.normalize(gradient, dim=-1), tensors["out/normal"]) < 5e-3
    assert (field.bound, field.sphere_bias) == (meta["config"]["radius"], meta["config"]["bias"])


@torch.no_grad()
def test_a_generated_background_equals_the_official_one() -> None:
    tensors, meta = fixture("hyper_ingp")
    background = background_from_state_dict(under("sd/", tensors), grid=grid_config(meta["config"]["bg_grid"]))
    assert isinstance(background, HyperBackground)
    behind = background.for_text(text(tensors))
    assert isinstance(behind, GeneratedBackground)
    for index, weight in enumerate(behind.weights):
        assert error(weight, tensors[f"out/bg_cache.bg_weights.{index}"]) < 2e-5
    directions = tensors["in/dirs"]
    assert error(background.grid((directions.reshape(-1, 3) + 1) / 2), tensors["out/bg_grid_features"]) < 2e-5
    assert error(behind(directions), tensors["out/bg_color"]) < 2e-5


@torch.no_grad()
def test_a_prompt_s_own_density_colour_and_normals_equal_the_official_ones() -> None:
    tensors, meta = fixture("nerf_ingp")
    config = meta["config"]
    generator = from_state_dict(under("sd/", tensors), grid=grid_config(config["grid"]), color=config["sh_act"])
    anything = torch.zeros(1, 1, 1)
    field = generator(TextEmbedding(anything, anything[0]))
    assert isinstance(field, DensityField)
    points = tensors["in/points"][None]
    sample = field.query(points)
    assert sample.density is not None
    assert error(sample.density[0], tensors["out/density"]) < 2e-5
    assert error(field.density(points)[0], tensors["out/density"]) < 2e-5
    assert error(sample.rgb[0], tensors["out/material_rgb"]) < 2e-5
    assert error(density_normal(field, points, sample.density)[0], tensors["out/normal"]) < 5e-3


@torch.no_grad()
def test_the_backgrounds_of_one_prompt_equal_the_official_ones() -> None:
    tensors, meta = fixture("nerf_ingp")
    grid = background_from_state_dict(under("sd/", tensors), grid=grid_config(meta["config"]["bg_grid"]))
    harmonic = background_from_state_dict(under("sd_sh/", tensors), color=meta["config"]["sh_act"])
    assert isinstance(grid, HashGridBackground) and isinstance(harmonic, HarmonicBackground)
    assert error(grid(tensors["in/dirs"]), tensors["out/bg_color"]) < 2e-5
    assert error(harmonic(tensors["in/dirs"]), tensors["out/bg_color_sh"]) < 2e-5
