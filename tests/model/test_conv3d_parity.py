"""3DConv-Net and its voxel field equal the official ones."""

from typing import Any

import numpy as np
import pytest
import torch
from fixtures import error, fixture, under
from torch import Tensor
from torch.nn import functional as F

from scaledreamer.model.fields.base import sdf_gradient
from scaledreamer.model.fields.voxel import VoxelField
from scaledreamer.model.generators.conv3d import Conv3D
from scaledreamer.model.official import from_state_dict
from scaledreamer.model.text import TextEmbedding


def read(state: dict[str, Tensor], **overrides: Any) -> Conv3D:
    generator = from_state_dict(state, **overrides)
    assert isinstance(generator, Conv3D)
    return generator


def text(tensors: dict[str, Tensor]) -> TextEmbedding:
    return TextEmbedding(tensors["in/text_embed"][:, None], tensors["in/text_embed"])


def check_field(field: VoxelField, tensors: dict[str, Tensor]) -> None:
    points = tensors["in/points"]
    sample = field.query(points)
    gradient = sdf_gradient(field, points, sample.sdf)
    assert error(sample.sdf, tensors["out/sdf"]) < 2e-5
    assert error(field.sdf(points), tensors["out/sdf"]) < 2e-5
    assert error(sample.rgb, torch.sigmoid(tensors["out/features"])) < 2e-5
    assert error(gradient, tensors["out/sdf_grad"]) < 5e-3
    assert error(F.normalize(gradient, dim=-1), tensors["out/normal"]) < 5e-3


@torch.no_grad()
def test_style_voxels_and_fields_of_two_prompts_at_once_equal_the_official_ones() -> None:
    """The official look-up mixes scenes when there are two, so its fields were recorded one at a time."""
    tensors, meta = fixture("conv3d_small")
    generator = read(under("sd/", tensors))
    config = meta["config"]
    assert generator.config.channels == tuple(config["channels"].values())
    assert generator.config.resolutions[-1] == config["img_resolution"]
    assert generator.config.bias_resolution == config["bias_resolution"]
    assert (generator.config.radius, generator.config.sphere_bias) == (config["radius"], config["bias"])
    assert error(generator.mapping(tensors["in/z"], tensors["in/text_embed"]), tensors["out/w"]) < 2e-5
    field = generator(text(tensors), tensors["in/z"])
    assert error(field.voxels, tensors["out/voxel_zero_noise"]) < 2e-5
    check_field(field, tensors)


@torch.no_grad()
def test_constant_noise_equals_the_official_one() -> None:
    tensors, _ = fixture("conv3d_small")
    generator = read(under("sd/", tensors), noise="const")
    assert error(generator(text(tensors), tensors["in/z"]).voxels, tensors["out/voxel_const_noise"]) < 2e-5


@torch.no_grad()
def test_the_unchanged_official_class_gives_the_same_voxels_and_field() -> None:
    tensors, meta = fixture("conv3d_recipe")
    generator = read(recipe(meta["keys"], meta["config"]["weight_seed"]))
    field = generator(text(tensors), tensors["in/z"])
    assert error(field.voxels, tensors["out/voxel"]) < 2e-5
    check_field(field, tensors)


def recipe(shapes: dict[str, list[int]], seed: int) -> dict[str, Tensor]:
    """Weights that are drawn, not stored."""
    draw = np.random.RandomState(seed)
    state: dict[str, Tensor] = {}
    for key, shape in sorted(shapes.items()):
        if key == "bbox":
            continue
        if key.endswith(("noise_const", "noise_strength", "w_avg")):
            state[key] = torch.zeros(shape)
            continue
        x = draw.standard_normal(shape).astype(np.float32)
        if key.endswith("affine.bias"):
            x = 1 + np.float32(0.1) * x
        elif key.endswith("bias"):
            x = np.float32(0.1) * x
        elif key.startswith(("sdf_network", "feature_network")):
            x = x / np.float32(shape[1] ** 0.5)
        state[key] = torch.from_numpy(x)
    return state


@pytest.mark.parametrize("missing", ["mapping.embed.bias", "synthesis.first_block.conv1.noise_strength"])
def test_a_missing_key_is_named(missing: str) -> None:
    state = under("sd/", fixture("conv3d_small")[0])
    del state[f"geometry.space_generator.{missing}"]
    with pytest.raises(Exception, match=missing):
        read(state)
