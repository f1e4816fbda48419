"""Fields as files: every kind comes back to the bit without its generator; what is no field is refused."""

import itertools
from collections.abc import Callable
from dataclasses import fields as parts
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from scaledreamer.errors import ModelFileError
from scaledreamer.export.isosurface import extract_mesh
from scaledreamer.model import checkpoint
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.decoders import Decoder, SeparateHeads, SummedPlanes
from scaledreamer.model.fields.density import DensityField, DensityNetworks
from scaledreamer.model.fields.files import load_field, read_note, save_field, stored
from scaledreamer.model.fields.hash_grid import HashGridField
from scaledreamer.model.fields.stretched import StretchedField
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.fields.voxel import VoxelField
from scaledreamer.model.layers.hash_grid import HashGrid, HashGridConfig
from scaledreamer.model.layers.mlp import bias_free
from scaledreamer.model.shelf import read_header, shipped_models
from scaledreamer.pipeline import TextTo3D

GRID = HashGridConfig(levels=3, log2_entries=6, base=3, growth=1.3)


def official() -> TriplaneField:
    decoder = SeparateHeads([12, 7, 5, 1], [12, 6, 3], 0.8, "sigmoid-mipnerf")
    return TriplaneField(torch.randn(2, 3, 4, 9, 9), decoder, 2.0)


def props() -> TriplaneField:
    return TriplaneField(torch.randn(2, 3, 6, 7, 7), SummedPlanes(6, 5, (0.3, 0.4, 0.55), 0.98, "sigmoid"), 1.0)


def voxels() -> VoxelField:
    return VoxelField(torch.randn(2, 6, 8, 8, 8), SeparateHeads([6, 16, 1], [6, 16, 3], 0.55, "sigmoid"), 1.5)


def hash_grid() -> HashGridField:
    def weights(*sizes: int) -> list[torch.Tensor]:
        return [torch.randn(2, inside, outside) for inside, outside in itertools.pairwise(sizes)]

    return HashGridField(steep(HashGrid(GRID)), weights(6, 5, 4, 1), weights(6, 3), 1.25, 0.5, "sigmoid")


def density() -> DensityField:
    networks = DensityNetworks(steep(HashGrid(GRID)), bias_free([6, 5, 1]), bias_free([6, 4, 3]))
    return DensityField(networks, 2, 1.0, 10.0, 0.5, 25.0, "sigmoid")


def steep(grid: HashGrid) -> HashGrid:
    torch.nn.init.normal_(grid.params)
    return grid


def painted() -> TriplaneField:
    decoder = SummedPlanes(6, 5, 0.5, 0.98, "sigmoid", palette=4, gain=0.2, contrast=2.0)
    return TriplaneField(torch.randn(2, 3, 6, 7, 7), decoder, 1.0, torch.rand(2, 4, 3))


def stretched() -> StretchedField:
    return StretchedField(props(), torch.rand(2, 3) / 2 + 0.5)


KINDS: dict[str, Callable[[], Field]] = {
    "official": official, "props": props, "voxels": voxels, "hash grid": hash_grid, "density": density,
    "painted": painted, "stretched": stretched,
}  # fmt: skip


@pytest.fixture(params=KINDS)
def field(request: pytest.FixtureRequest) -> Field:
    torch.manual_seed(0)
    return KINDS[request.param]()


@torch.no_grad()
def test_a_field_comes_back_to_the_bit(field: Field, tmp_path: Path) -> None:
    path = tmp_path / "made.field"
    save_field(field, path, {})
    points = 1.5 * field.bound * (2 * torch.rand(1, 400, 3) - 1)  # a third of each axis lies outside the box
    before = torch.random.get_rng_state()
    loaded = load_field(path)
    assert type(loaded) is type(field) and len(loaded) == 1 and loaded.bound == field.bound
    expected, found = field[0].query(points), loaded.query(points)
    for part in parts(expected):
        one, other = getattr(expected, part.name), getattr(found, part.name)
        assert (one is None and other is None) or torch.equal(one, other), part.name
    assert torch.equal(field[0].sdf(points), loaded.sdf(points))
    assert torch.equal(torch.random.get_rng_state(), before), "reading draws no random number"


def test_a_loaded_field_is_its_own_and_asks_for_no_gradient(field: Field, tmp_path: Path) -> None:
    save_field(field, tmp_path / "a.field", {})
    loaded = load_field(tmp_path / "a.field")
    (tmp_path / "a.field").unlink()
    assert not loaded.sdf(torch.rand(1, 5, 3)).requires_grad
    form, tensors = stored(loaded)
    assert form == stored(field)[0] and all(tensor.dtype == torch.float32 for tensor in tensors.values())


def test_a_file_is_as_large_as_what_one_scene_stores(field: Field, tmp_path: Path) -> None:
    save_field(field, tmp_path / "a.field", {})
    numbers = sum(tensor.numel() for tensor in stored(field[0])[1].values())
    assert 4 * numbers < (tmp_path / "a.field").stat().st_size < 4 * numbers + 2500


def test_a_field_is_built_where_it_is_asked_for(field: Field, tmp_path: Path) -> None:
    save_field(field, tmp_path / "a.field", {})
    assert load_field(tmp_path / "a.field", device="meta").device.type == "meta"


def test_saving_again_gives_the_same_bytes_and_the_note(field: Field, tmp_path: Path) -> None:
    note = {"prompt": "eine grüne Tür", "seed": None, "weights": [0.25, 0.75]}
    for name in "ab":
        save_field(field, tmp_path / name, note)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_note(tmp_path / "a") == note


@torch.no_grad()
@pytest.mark.parametrize("model", shipped_models())
def test_the_mesh_of_a_shipped_model_s_field_is_the_same_mesh(model: str, tmp_path: Path) -> None:
    made = TextTo3D.load(model).fields(["a blue mug", "a red wooden barrel"])
    field = made[1]
    save_field(field, tmp_path / "barrel.field", {})
    before, after = (extract_mesh(one, 40) for one in (field, load_field(tmp_path / "barrel.field")))
    assert len(before.faces) > 500
    for name in ("vertices", "faces", "colors"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name


class Strange(Field):
    """A field of a class that has no file."""

    bound = 1.0

    def query(self, points):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    sdf = query

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int | slice) -> "Strange":
        return self


def test_a_field_without_a_file_form_is_refused_by_its_class(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="a Strange has no file form; DensityField, HashGridField, StretchedField"):
        save_field(Strange(), tmp_path / "a.field", {})
    field = props()
    field.decoder = Decoder()
    with pytest.raises(ModelFileError, match="a Decoder has no file form; SeparateHeads and SummedPlanes have"):
        save_field(field, tmp_path / "a.field", {})
    assert list(tmp_path.iterdir()) == []


def test_halves_are_refused(tmp_path: Path) -> None:
    field = props()
    field.planes = field.planes.half()
    with pytest.raises(ModelFileError, match=r"field of \['torch.float16'\]; a field's file holds torch.float32"):
        save_field(field, tmp_path / "a.field", {})


def test_what_is_no_field_is_refused_with_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no model file at"):
        load_field(tmp_path / "nothing.field")
    checkpoint.write(tmp_path / "model.safetensors", "generator", {"x": torch.zeros(1)}, {})
    with pytest.raises(ModelFileError, match=r"holds a 'generator', but a 'field' is needed"):
        load_field(tmp_path / "model.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.field")
    with pytest.raises(ModelFileError, match="format 'unknown'"):
        load_field(tmp_path / "foreign.field")


def test_a_truncated_file_is_refused(field: Field, tmp_path: Path) -> None:
    path = tmp_path / "a.field"
    save_field(field, path, {})
    whole = path.read_bytes()
    for length in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="no complete safetensors"):
            load_field(path)


def test_an_unknown_kind_or_an_ill_fitting_header_is_refused_by_name(field: Field, tmp_path: Path) -> None:
    path = tmp_path / "a.field"
    save_field(field, path, {})
    tensors, header = load_file(path), read_header(path, "field")
    form = header["field"]

    def refused(match: str, tensors: dict[str, torch.Tensor] = tensors, **changed: object) -> None:
        checkpoint.write(path, "field", tensors, {"field": {**form, **changed}, "note": {}})
        with pytest.raises(ModelFileError, match=match):
            load_field(path)

    refused("written by another version.*'gaussians'", kind="gaussians")
    refused("written by another version.*bound", bound=-1.0)
    refused("written by another version.*novelty", novelty=1)
    name = min(tensors)
    refused(f"missing .*{name}", {key: tensor for key, tensor in tensors.items() if key != name})
    refused(f"{name} is ", {**tensors, name: torch.zeros(2, 2, 2)})
    checkpoint.write(path, "field", tensors, {"note": {}})
    with pytest.raises(ModelFileError, match="written by another version"):
        load_field(path)
