"""What prompts have brought to a field, apart from what they share: to optimise it, to keep it, to average it."""

import copy

import torch
from torch import Tensor

from scaledreamer.errors import ModelFileError
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.density import DensityField
from scaledreamer.model.fields.hash_grid import HashGridField
from scaledreamer.model.fields.stretched import StretchedField
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.fields.voxel import VoxelField


def own_copy(field: Field) -> tuple[Field, list[Tensor]]:
    """Scene 0 of a field with what its prompt has brought as leaf tensors that ask for gradient, and those tensors.

    They are the planes, the voxels, the weights of a hash grid's perceptrons; of a field that has one prompt, all it
    stores. A palette and a stretch stay as the prompt's words have them: what is refined is where, not what. The
    decoder or the grid that all prompts share stays the generator's, and is not trained. Raises ModelFileError for a
    field of another kind.
    """
    match field[0]:
        case TriplaneField(planes=planes, decoder=decoder, palette=palette):
            own, colors = leaf(planes), None if palette is None else palette.detach()
            return TriplaneField(own, decoder, field.bound, colors), [own]
        case VoxelField(voxels=voxels, decoder=decoder):
            own = leaf(voxels)
            return VoxelField(own, decoder, field.bound), [own]
        case HashGridField() as scene:
            sdf, rgb = ([leaf(weight) for weight in weights] for weights in (scene.sdf_weights, scene.rgb_weights))
            return HashGridField(scene.grid, sdf, rgb, scene.bound, scene.sphere_bias, scene.color), [*sdf, *rgb]
        case DensityField() as scene:
            networks = copy.deepcopy(scene.networks).requires_grad_(True)
            one = DensityField(
                networks, 1, scene.bound, scene.blob, scene.blob_radius, scene.level, scene.color
            )  # fmt: skip
            return one, list(networks.parameters())
        case StretchedField(inner=inner, stretch=stretch):
            own_inner, tensors = own_copy(inner)
            return StretchedField(own_inner, stretch.detach()), tensors
        case other:
            known = "DensityField, HashGridField, StretchedField, TriplaneField or VoxelField"
            raise ModelFileError(f"a {type(other).__name__} cannot be refined; give a {known}")


def frozen_copy(field: Field) -> tuple[Field, list[Tensor]]:
    """The same without gradient, to average into or to keep."""
    own, tensors = own_copy(field)
    return own, [tensor.requires_grad_(False) for tensor in tensors]


def averaged(field: Field) -> Field:
    """One scene whose tensors are the means of those of all scenes: of answers to one prompt, what they have in common.

    Of a field with one prompt, that one. Raises ModelFileError for a field of another kind.
    """
    if len(field) == 1:
        return field
    match field:
        case TriplaneField(planes=planes, decoder=decoder, palette=palette):
            return TriplaneField(mean(planes), decoder, field.bound, None if palette is None else mean(palette))
        case VoxelField(voxels=voxels, decoder=decoder):
            return VoxelField(mean(voxels), decoder, field.bound)
        case HashGridField(grid=grid, sdf_weights=sdf, rgb_weights=rgb):
            return HashGridField(
                grid, [*map(mean, sdf)], [*map(mean, rgb)], field.bound, field.sphere_bias, field.color
            )
        case StretchedField(inner=inner, stretch=stretch):
            return StretchedField(averaged(inner), mean(stretch))
        case DensityField():  # of one prompt, however often it is asked
            return field[0]
        case other:
            known = "DensityField, HashGridField, StretchedField, TriplaneField or VoxelField"
            raise ModelFileError(f"scenes of a {type(other).__name__} cannot be averaged; give a {known}")


def mean(scenes: Tensor) -> Tensor:
    """Of all scenes, as one."""
    return scenes.mean(0, keepdim=True)


def leaf(tensor: Tensor) -> Tensor:
    """A copy that asks for gradient, laid out as a fresh tensor."""
    return tensor.detach().clone(memory_format=torch.contiguous_format).requires_grad_(True)
