"""One scene's field as a file: what it stores, to the bit, and the sizes that rebuild it without its generator."""

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal, assert_never

import torch
from pydantic import Field as Limits
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from torch import Tensor, nn

from scaledreamer.config import Config, explain
from scaledreamer.errors import ModelFileError
from scaledreamer.model import checkpoint
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.color import ColorActivation
from scaledreamer.model.fields.decoders import Bias, Decoder, SeparateHeads, SummedPlanes
from scaledreamer.model.fields.density import DensityField, DensityNetworks
from scaledreamer.model.fields.hash_grid import HashGridField
from scaledreamer.model.fields.stretched import StretchedField
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.fields.voxel import VoxelField
from scaledreamer.model.layers.hash_grid import HashGrid, HashGridConfig
from scaledreamer.model.layers.mlp import bias_free
from scaledreamer.model.shelf import read_header

KIND = "field"
Sizes = Annotated[tuple[PositiveInt, ...], Limits(min_length=2)]  # numbers that enter a perceptron, ..., that leave it


class SeparateHeadsForm(Config):
    """What rebuilds a SeparateHeads decoder."""

    kind: Literal["separate"] = "separate"
    sdf_sizes: Sizes
    rgb_sizes: Sizes
    sphere_bias: Bias
    color: ColorActivation


class SummedPlanesForm(Config):
    """What rebuilds a SummedPlanes decoder."""

    kind: Literal["summed"] = "summed"
    channels: PositiveInt
    hidden: PositiveInt
    sphere_bias: Bias
    ball: PositiveFloat
    color: ColorActivation
    palette: NonNegativeInt = 0  # colours
    gain: PositiveFloat = 1.0
    contrast: PositiveFloat = 1.0


AnyDecoderForm = SeparateHeadsForm | SummedPlanesForm
DecoderForm = Annotated[AnyDecoderForm, Limits(discriminator="kind")]


class TriplaneForm(Config):
    """What rebuilds a TriplaneField."""

    kind: Literal["triplane"] = "triplane"
    bound: PositiveFloat
    channels: PositiveInt
    resolution: PositiveInt
    decoder: DecoderForm


class VoxelForm(Config):
    """What rebuilds a VoxelField."""

    kind: Literal["voxel"] = "voxel"
    bound: PositiveFloat
    channels: PositiveInt
    resolution: PositiveInt
    decoder: DecoderForm


class HashGridForm(Config):
    """What rebuilds a HashGridField."""

    kind: Literal["hash-grid"] = "hash-grid"
    bound: PositiveFloat
    grid: HashGridConfig
    sdf_sizes: Sizes
    rgb_sizes: Sizes
    sphere_bias: Bias
    color: ColorActivation


class DensityForm(Config):
    """What rebuilds a DensityField."""

    kind: Literal["density"] = "density"
    bound: PositiveFloat
    grid: HashGridConfig
    density_sizes: Sizes
    rgb_sizes: Sizes
    blob: PositiveFloat
    blob_radius: PositiveFloat
    level: PositiveFloat
    color: ColorActivation


class StretchedForm(Config):
    """What rebuilds a StretchedField."""

    kind: Literal["stretched"] = "stretched"
    inner: "FieldForm"


AnyFieldForm = TriplaneForm | VoxelForm | HashGridForm | DensityForm | StretchedForm
FieldForm = Annotated[AnyFieldForm, Limits(discriminator="kind")]
_FORM: TypeAdapter[AnyFieldForm] = TypeAdapter(FieldForm)


def save_field(field: Field, path: Path | str, note: dict[str, Any]) -> None:
    """Write scene 0 of a field in float32, exactly as it is. `note` says in JSON what the reader should know of it.

    Raises ModelFileError for a field that has no file form, or that is not float32.
    """
    form, tensors = stored(field[0])
    others = sorted({str(tensor.dtype) for tensor in tensors.values()} - {str(torch.float32)})
    if others:
        raise ModelFileError(f"cannot write a field of {others}; a field's file holds torch.float32")
    header = {"field": form.model_dump(mode="json"), "note": note}
    checkpoint.write(Path(path), KIND, tensors, header)


def read_note(path: Path | str) -> dict[str, Any]:
    """What `save_field` was told."""
    note: dict[str, Any] = read_header(Path(path), KIND)["note"]
    return note


def load_field(path: Path | str, device: torch.device | str = "cpu") -> Field:
    """The field of one scene. Raises ModelFileError, with what was found, for anything that is not a whole one."""
    path = Path(path)
    try:
        form = _FORM.validate_python(read_header(path, KIND).get("field"))
    except ValidationError as error:
        raise ModelFileError(f"{path} was written by another version: {explain(error)}") from error
    with torch.device(device), torch.random.fork_rng(devices=[]):  # new layers draw numbers, a reader should not
        field = rebuilt(form)
    own, tensors = stored(field)[1], checkpoint.read_tensors(path)
    checkpoint.check_fit(own, tensors, path)
    for name, tensor in tensors.items():
        own[name].copy_(tensor)
    return field


def stored(field: Field) -> tuple[AnyFieldForm, dict[str, Tensor]]:
    """The form of a field, and every tensor it stores by name: the field's own memory, without gradient."""
    form: AnyFieldForm
    match field:
        case TriplaneField(planes=planes, palette=palette):
            form = TriplaneForm(
                bound=field.bound, channels=planes.shape[2], resolution=planes.shape[-1],
                decoder=decoder_form(field.decoder),
            )  # fmt: skip
            colors = {} if palette is None else {"palette": palette.detach()}
            return form, {"planes": planes.detach(), **colors, **named("decoder", field.decoder)}
        case VoxelField(voxels=voxels):
            channels, resolution = voxels.shape[1], voxels.shape[-1]
            form = VoxelForm(
                bound=field.bound, channels=channels, resolution=resolution, decoder=decoder_form(field.decoder)
            )
            return form, {"voxels": voxels.detach(), **named("decoder", field.decoder)}
        case HashGridField(sdf_weights=sdf, rgb_weights=rgb):
            form = HashGridForm(
                bound=field.bound, grid=field.grid.config, sphere_bias=field.sphere_bias, color=field.color,
                sdf_sizes=(sdf[0].shape[1], *(weight.shape[2] for weight in sdf)),
                rgb_sizes=(rgb[0].shape[1], *(weight.shape[2] for weight in rgb)),
            )  # fmt: skip
            matrices = {f"sdf.{layer}": weight.detach() for layer, weight in enumerate(sdf)}
            matrices |= {f"rgb.{layer}": weight.detach() for layer, weight in enumerate(rgb)}
            return form, {**named("grid", field.grid), **matrices}
        case DensityField(networks=networks):
            form = DensityForm(
                bound=field.bound, grid=networks.grid.config, blob=field.blob, blob_radius=field.blob_radius,
                level=field.level, color=field.color, density_sizes=sizes_of(networks.density_network),
                rgb_sizes=sizes_of(networks.rgb_network),
            )  # fmt: skip
            return form, named("networks", networks)
        case StretchedField(inner=inner, stretch=stretch):
            inner_form, tensors = stored(inner)
            factors = {"stretch": stretch.detach()}
            return StretchedForm(inner=inner_form), factors | {f"inner.{name}": one for name, one in tensors.items()}
        case _:
            known = "DensityField, HashGridField, StretchedField, TriplaneField and VoxelField"
            raise ModelFileError(f"a {type(field).__name__} has no file form; {known} have one")


def rebuilt(form: AnyFieldForm) -> Field:
    """A field of this form; what it stores is yet to be filled in."""
    match form:
        case TriplaneForm():
            planes = torch.empty(1, 3, form.channels, form.resolution, form.resolution)
            decoder = rebuilt_decoder(form.decoder)
            colors = decoder.palette if isinstance(decoder, SummedPlanes) else 0
            return TriplaneField(planes, decoder, form.bound, torch.empty(1, colors, 3) if colors else None)
        case VoxelForm():
            voxels = torch.empty(1, form.channels, form.resolution, form.resolution, form.resolution)
            return VoxelField(voxels, rebuilt_decoder(form.decoder), form.bound)
        case HashGridForm():
            grid = HashGrid(form.grid).requires_grad_(False)
            sdf, rgb = (
                [torch.empty(1, inside, outside) for inside, outside in itertools.pairwise(sizes)]
                for sizes in (form.sdf_sizes, form.rgb_sizes)
            )
            return HashGridField(grid, sdf, rgb, form.bound, form.sphere_bias, form.color)
        case DensityForm():
            networks = DensityNetworks(HashGrid(form.grid), bias_free(form.density_sizes), bias_free(form.rgb_sizes))
            networks.requires_grad_(False)
            return DensityField(networks, 1, form.bound, form.blob, form.blob_radius, form.level, form.color)
        case StretchedForm():
            return StretchedField(rebuilt(form.inner), torch.empty(1, 3))
        case never:
            assert_never(never)


def decoder_form(decoder: Decoder) -> AnyDecoderForm:
    """What rebuilds a decoder."""
    match decoder:
        case SeparateHeads():
            return SeparateHeadsForm(
                sdf_sizes=sizes_of(decoder.sdf_network), rgb_sizes=sizes_of(decoder.rgb_network),
                sphere_bias=decoder.sphere_bias, color=decoder.color,
            )  # fmt: skip
        case SummedPlanes(hidden=hidden):
            return SummedPlanesForm(
                channels=hidden.in_features, hidden=hidden.out_features, sphere_bias=decoder.sphere_bias,
                ball=decoder.ball, color=decoder.color, palette=decoder.palette, gain=decoder.gain,
                contrast=decoder.contrast,
            )  # fmt: skip
        case _:
            raise ModelFileError(
                f"a {type(decoder).__name__} has no file form; SeparateHeads and SummedPlanes have one"
            )


def rebuilt_decoder(form: AnyDecoderForm) -> Decoder:
    """A frozen decoder of this form; its weights are yet to be filled in."""
    decoder: Decoder
    match form:
        case SeparateHeadsForm():
            decoder = SeparateHeads(form.sdf_sizes, form.rgb_sizes, form.sphere_bias, form.color)
        case SummedPlanesForm():
            decoder = SummedPlanes(
                form.channels,
                form.hidden,
                form.sphere_bias,
                form.ball,
                form.color,
                form.palette,
                form.gain,
                form.contrast,
            )
        case never:
            assert_never(never)
    return decoder.requires_grad_(False)


def named(part: str, module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors under `part`."""
    return {f"{part}.{name}": tensor for name, tensor in module.state_dict().items()}


def sizes_of(network: nn.Sequential) -> Sizes:
    """How many numbers enter a perceptron, its hidden ones, and how many leave it."""
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    return (layers[0].in_features, *(layer.out_features for layer in layers))
