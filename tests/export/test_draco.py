"""A compressed GLB decoded again: the triangles of the plain one, a little moved, and everything else as it was."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import DracoPy
import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from typer.testing import CliRunner

from scaledreamer.cli import app
from scaledreamer.errors import ExportError
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.export.draco import EXTENSION, encode_draco_glb
from scaledreamer.export.finish import finish_mesh
from scaledreamer.export.gltf import Part, encode_glb, linear_rgba
from scaledreamer.export.package import write_package
from scaledreamer.export.presets import PRESETS, asset_settings
from scaledreamer.export.unwrap import by_grid
from tests.export.fields import Analytic, ball, cone

REMEDY = r"pip install 'scaledreamer\[draco\]'"


@pytest.fixture(scope="module")
def plain() -> Mesh:
    """A cone along +X, a little above the origin, coloured at its vertices."""
    return extract_mesh(Analytic((cone(),)), resolution=24)


@pytest.fixture(scope="module")
def textured(plain: Mesh) -> Mesh:
    texture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return replace(by_grid(plain, 2048, 2), texture=texture)


def read(content: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(content[12:16], "little")
    return json.loads(content[20 : 20 + length]), content[28 + length :]


def viewed(document: dict[str, Any], buffer: bytes, number: int) -> bytes:
    view = document["bufferViews"][number]
    return buffer[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]


def decoded(content: bytes, mesh: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Faces, and attributes by their names in glTF."""
    document, buffer = read(content)
    extension = document["meshes"][mesh]["primitives"][0]["extensions"][EXTENSION]
    made = DracoPy.decode(viewed(document, buffer, extension["bufferView"]))
    by_id = {attribute["unique_id"]: attribute["data"] for attribute in made.attributes}
    return made.faces, {name: by_id[number] for name, number in extension["attributes"].items()}


def canonical(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces from their smallest corner on, in order, so that numbering and order do not matter; and their rows."""
    turned = np.stack([np.roll(row, -row.argmin()) for row in faces])
    order = np.lexsort(turned.T)
    return turned[order], order


@pytest.mark.parametrize("name", ["plain", "textured"])
def test_the_same_faces_come_back_close_to_where_they_were(name: str, request: pytest.FixtureRequest) -> None:
    mesh: Mesh = request.getfixturevalue(name)
    faces, attributes = decoded(encode_draco_glb([Part("a", mesh)], "a", {}))
    places, number = np.unique(mesh.vertices[:, [1, 2, 0]], axis=0, return_inverse=True)
    distances, nearest = cKDTree(places).query(attributes["POSITION"])
    size = np.ptp(places, axis=0).max()
    assert distances.max() < 1e-4 * size
    before, row_before = canonical(number[mesh.faces])
    after, row_after = canonical(nearest[faces])
    np.testing.assert_array_equal(after, before)

    def corners(values: np.ndarray, of: np.ndarray, order: np.ndarray, by: np.ndarray) -> np.ndarray:
        start = by[of].argmin(axis=1)[order, None]
        return values[np.take_along_axis(of[order], (start + np.arange(3)) % 3, axis=1)]

    def both(attribute: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (
            corners(attributes[attribute], faces, row_after, nearest),
            corners(values, mesh.faces, row_before, number),
        )

    read_normals, normals = both("NORMAL", mesh.normals[:, [1, 2, 0]])
    assert (read_normals * normals).sum(axis=-1).min() > np.cos(np.radians(0.5))
    if mesh.uvs is None:
        np.testing.assert_array_equal(*both("COLOR_0", linear_rgba(mesh)))
    else:
        read_uvs, uvs = both("TEXCOORD_0", mesh.uvs * [1, -1] + [0, 1])
        assert np.abs(read_uvs - uvs).max() < 0.6 / 2**12


@pytest.mark.parametrize("name", ["plain", "textured"])
def test_everything_but_the_triangles_is_as_in_the_plain_file(name: str, request: pytest.FixtureRequest) -> None:
    parts, extras = [Part("a", request.getfixturevalue(name))], {"prompt": "a cone", "seed": 3}
    content, other = encode_draco_glb(parts, "a-cone", extras), encode_glb(parts, "a-cone", extras)
    (document, buffer), (expected, plain_buffer) = read(content), read(other)
    for key in ("asset", "scene", "scenes", "nodes", "materials", "samplers", "textures"):
        assert document.get(key) == expected.get(key)
    assert document["extensionsUsed"] == document["extensionsRequired"] == [EXTENSION]
    pictures = [viewed(document, buffer, image["bufferView"]) for image in document.get("images", [])]
    assert pictures == [viewed(expected, plain_buffer, image["bufferView"]) for image in expected.get("images", [])]
    assert document["buffers"] == [{"byteLength": len(buffer)}] and len(content) < len(other)


def test_the_accessors_tell_what_comes_out(textured: Mesh) -> None:
    content = encode_draco_glb([Part("a", textured)], "a", {})
    document, _ = read(content)
    faces, attributes = decoded(content)
    primitive = document["meshes"][0]["primitives"][0]
    assert attributes.keys() == primitive["attributes"].keys()
    assert not any("bufferView" in accessor for accessor in document["accessors"])
    assert document["accessors"][primitive["indices"]] == {"componentType": 5125, "type": "SCALAR", "count": faces.size}
    for name, number in primitive["attributes"].items():
        assert document["accessors"][number]["count"] == len(attributes[name])
    position = document["accessors"][primitive["attributes"]["POSITION"]]
    np.testing.assert_array_equal(position["min"], attributes["POSITION"].min(axis=0))
    np.testing.assert_array_equal(position["max"], attributes["POSITION"].max(axis=0))


def test_another_reader_finds_the_same_solid(textured: Mesh) -> None:
    parts = [Part("a", textured)]
    files = encode_draco_glb(parts, "a", {}), encode_glb(parts, "a", {})
    one, other = (trimesh.load(io.BytesIO(file), file_type="glb", force="mesh", process=False) for file in files)
    np.testing.assert_allclose(one.bounds, other.bounds, atol=1e-4)
    assert one.volume == pytest.approx(other.volume, rel=1e-3) and one.visual.uv is not None


def test_every_part_is_compressed_and_a_hull_keeps_no_colours(plain: Mesh, textured: Mesh) -> None:
    parts = [Part("a", textured), Part("b", plain), Part("hull", plain, seen=False)]
    content = encode_draco_glb(parts, "a", {})
    assert [len(decoded(content, number)[0]) for number in range(3)] == [len(plain.faces)] * 3
    assert [set(decoded(content, number)[1]) for number in range(3)] == [
        {"POSITION", "NORMAL", "TEXCOORD_0"}, {"POSITION", "NORMAL", "COLOR_0"}, {"POSITION"},
    ]  # fmt: skip
    assert [node["name"] for node in read(content)[0]["nodes"]] == ["a", "a", "b", "hull"]


def test_the_same_mesh_gives_the_same_bytes(textured: Mesh) -> None:
    assert len({encode_draco_glb([Part("a", textured)], "a", {}) for _ in range(3)}) == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_it_is_never_made_unasked(preset: str) -> None:
    assert asset_settings(preset).compress == "none"


def test_a_folder_holds_it_beside_the_plain_file(tmp_path: Path) -> None:
    settings = asset_settings("prop", texture=0, lods=0, collision="none", thumbnail=0, compress="draco")
    asset = finish_mesh(extract_mesh(Analytic((ball(),)), resolution=24), settings, "a ball")
    files = {file.name: file for file in write_package(asset, tmp_path, [".glb"], {}).files}
    made, other = files["a-ball_draco.glb"], files["a-ball.glb"]
    assert (made.role, made.level, made.media_type) == ("compressed", 0, "model/gltf-binary")
    assert made.triangles == other.triangles and made.bytes < other.bytes / 3
    assert made.bytes == (tmp_path / made.name).stat().st_size
    assert EXTENSION.encode() not in (tmp_path / other.name).read_bytes()


def test_without_the_library_the_remedy_is_named_before_any_work(
    plain: Mesh, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(ExportError, match=REMEDY):
        encode_draco_glb([Part("a", plain)], "a", {})
    with pytest.raises(ExportError, match=REMEDY):
        asset_settings(compress="draco")
    said = CliRunner().invoke(app, ["generate", "a", "-o", str(tmp_path), "--set", "compress=draco", "--model", "none"])
    assert isinstance(said.exception, ExportError) and "DracoPy" in str(said.exception)
    assert asset_settings().compress == "none"


def test_one_file_alone_has_no_place_for_it(tmp_path: Path) -> None:
    out = str(tmp_path / "a.glb")
    said = CliRunner().invoke(app, ["generate", "a", "-o", out, "--set", "compress=draco", "--model", "none"])
    assert isinstance(said.exception, ExportError) and "give a folder" in str(said.exception)


def test_what_has_no_area_at_all_is_refused() -> None:
    corners = np.zeros((3, 3), np.float32)
    with pytest.raises(ExportError, match="cannot compress a part of 'a dot' by Draco"):
        encode_draco_glb([Part("a", Mesh(corners, np.array([[0, 1, 2]]), corners))], "a dot", {})
