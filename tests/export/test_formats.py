"""What every format keeps: geometry, axes, colour, whole files."""

import json
import struct
from inspect import unwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh

from scaledreamer.errors import ExportError
from scaledreamer.export import Mesh, extract_mesh, formats
from scaledreamer.export.color import linear_to_srgb, srgb_to_linear
from scaledreamer.export.formats import MEDIA_TYPES, SUFFIXES
from scaledreamer.export.gltf import Part
from scaledreamer.export.obj import MATERIALS
from tests.export.fields import Analytic, ball, cone

COMPONENTS = {5123: "<u2", 5125: "<u4", 5126: "<f4"}
CORNER = np.eye(3, dtype=np.float32)
WIDTHS = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    """A cone along +X, a little above the origin."""
    return extract_mesh(Analytic((cone(),)), resolution=24)


def read_glb(content: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, length, json_length, json_kind = struct.unpack_from("<4sIII4s", content)
    assert (magic, version, length, json_kind) == (b"glTF", 2, len(content), b"JSON")
    bin_length, bin_kind = struct.unpack_from("<I4s", content, 20 + json_length)
    assert (bin_kind, 28 + json_length + bin_length) == (b"BIN\0", length)
    return json.loads(content[20 : 20 + json_length]), content[28 + json_length :]


def attribute(document: dict[str, Any], buffer: bytes, name: str) -> np.ndarray:
    primitive = document["meshes"][0]["primitives"][0]
    accessor = document["accessors"][primitive["indices"] if name == "indices" else primitive["attributes"][name]]
    view = document["bufferViews"][accessor["bufferView"]]
    count = accessor["count"] * WIDTHS[accessor["type"]]
    flat = np.frombuffer(buffer, COMPONENTS[accessor["componentType"]], count, view["byteOffset"])
    return flat.reshape(accessor["count"], -1)


def load(path: Path) -> trimesh.Trimesh:
    return trimesh.load(path, force="mesh", process=False)


def triangles(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Corner positions of the faces in an order that does not depend on how they were numbered."""
    rows = np.asarray(vertices)[np.asarray(faces)].reshape(-1, 9).round(5) + 0.0
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".usdz"])  # trimesh does not read it
def test_a_file_read_back_has_the_same_triangles(mesh: Mesh, suffix: str, tmp_path: Path) -> None:
    (*_, path) = mesh.write(tmp_path / f"cone{suffix}")
    y_up = suffix in (".glb", ".gltf", ".obj")
    back = load(path)
    expected = mesh.vertices[:, [1, 2, 0]] if y_up else mesh.vertices
    np.testing.assert_allclose(triangles(back.vertices, back.faces), triangles(expected, mesh.faces), atol=2e-5)
    back.merge_vertices(merge_norm=True, merge_tex=True)
    assert back.is_watertight and back.volume > 0


@pytest.mark.parametrize("suffix", [".glb", ".gltf", ".obj"])
def test_front_is_plus_z_and_up_is_plus_y_in_gltf_and_obj(mesh: Mesh, suffix: str, tmp_path: Path) -> None:
    (*_, path) = mesh.write(tmp_path / f"cone{suffix}")
    vertices = load(path).vertices
    np.testing.assert_allclose(vertices[np.argmax(vertices[:, 2])], [0, 0.2, 0.5], atol=0.1)
    assert vertices[:, 2].min() == pytest.approx(-0.6, abs=0.01)
    assert vertices[:, 1].mean() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("suffix", [".ply", ".stl"])
def test_front_stays_plus_x_and_up_plus_z_in_ply_and_stl(mesh: Mesh, suffix: str, tmp_path: Path) -> None:
    (*_, path) = mesh.write(tmp_path / f"cone{suffix}")
    vertices = load(path).vertices
    assert vertices[:, 0].min() == pytest.approx(-0.6, abs=0.01)
    assert vertices[:, 2].mean() == pytest.approx(0.2, abs=0.02)


def test_gltf_colours_are_linear_and_lose_nothing_visible(mesh: Mesh, tmp_path: Path) -> None:
    colors = np.random.default_rng(0).random(mesh.vertices.shape, dtype=np.float32)
    colors[:256] = np.arange(256)[:, None] / 255
    content = Mesh(mesh.vertices, mesh.faces, colors).write(tmp_path / "a.glb")[0].read_bytes()
    rgba = attribute(*read_glb(content), "COLOR_0") / 65535
    assert (rgba[:, 3] == 1).all()
    np.testing.assert_allclose(linear_to_srgb(rgba[:, :3]), colors, atol=1e-3)
    assert rgba[128, 0] == pytest.approx(0.2159, abs=1e-3)  # sRGB 128


def test_srgb_and_linear_are_each_others_inverse() -> None:
    srgb = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(srgb)), srgb, atol=1e-7)
    assert srgb_to_linear(np.array([0.5]))[0] == pytest.approx(0.21404114)


def test_gltf_normals_turn_with_the_axes(mesh: Mesh, tmp_path: Path) -> None:
    normals = attribute(*read_glb(mesh.write(tmp_path / "a.glb")[0].read_bytes()), "NORMAL")
    np.testing.assert_allclose(normals, mesh.normals[:, [1, 2, 0]], atol=1e-6)


def test_a_glb_says_who_made_it_and_from_what(mesh: Mesh, tmp_path: Path) -> None:
    extras = {"prompt": 'a "red" cône', "seed": 3}
    document, _ = read_glb(mesh.write(tmp_path / "red cone.glb", extras)[0].read_bytes())
    assert document["asset"]["extras"] == document["nodes"][0]["extras"] == extras
    assert document["asset"]["generator"].startswith("ScaleDreamer")
    assert document["meshes"][0]["name"] == document["nodes"][0]["name"] == "a-red-cone"
    assert "extensionsRequired" not in document and "extensionsUsed" not in document


def test_extras_that_json_cannot_hold_are_refused_before_a_file_appears(mesh: Mesh, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="extras"):
        mesh.write(tmp_path / "a.glb", {"cfg": float("nan")})
    assert not list(tmp_path.iterdir())


def test_many_vertices_are_indexed_with_32_bits(tmp_path: Path) -> None:
    mesh = extract_mesh(Analytic((ball(radius=0.95),)), resolution=128)
    assert len(mesh.vertices) > 65535
    document, buffer = read_glb(mesh.write(tmp_path / "a.glb")[0].read_bytes())
    indices = attribute(document, buffer, "indices")
    assert indices.dtype == np.uint32
    np.testing.assert_array_equal(indices.reshape(-1, 3), mesh.faces)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_mesh_gives_the_same_bytes(mesh: Mesh, suffix: str, tmp_path: Path) -> None:
    def written(folder: str) -> list[tuple[str, bytes]]:
        paths = mesh.write(tmp_path / folder / f"cone{suffix}", {"prompt": "a cone"})
        return [(path.name, path.read_bytes()) for path in paths]

    assert written("first") == written("second")


def test_ply_and_obj_keep_srgb_vertex_colours(mesh: Mesh, tmp_path: Path) -> None:
    ply = load(mesh.write(tmp_path / "a.ply")[0])
    np.testing.assert_allclose(ply.visual.vertex_colors[:, :3] / 255, mesh.colors, atol=0.5 / 255 + 1e-6)
    text = mesh.write(tmp_path / "a.obj")[-1].read_text().splitlines()
    rows = [line.split()[4:] for line in text if line.startswith("v ")]
    np.testing.assert_allclose(np.array(rows, dtype=float), mesh.colors, atol=1e-4)


@pytest.mark.parametrize("suffix", [".ply", ".obj"])
def test_ply_and_obj_hold_the_normals(mesh: Mesh, suffix: str, tmp_path: Path) -> None:
    content = mesh.write(tmp_path / f"a{suffix}")[-1].read_bytes()
    if suffix == ".ply":
        body = content[content.index(b"end_header\n") + 11 :]
        rows = np.frombuffer(body, np.dtype([("p", "<f4", 3), ("n", "<f4", 3), ("c", "u1", 3)]), len(mesh.vertices))
        np.testing.assert_array_equal(rows["n"], mesh.normals)
    else:
        words = [line.split()[1:] for line in content.decode().splitlines() if line.startswith("vn ")]
        np.testing.assert_allclose(np.array(words, dtype=float), mesh.normals[:, [1, 2, 0]], atol=1e-5)


def test_an_obj_has_a_material_for_each_of_a_few_colours(mesh: Mesh, tmp_path: Path) -> None:
    tones = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32)
    colors = tones[(mesh.vertices[:, 0] > 0).astype(int)]
    materials, path = Mesh(mesh.vertices, mesh.faces, colors).write(tmp_path / "two tones.obj")
    assert f"mtllib {materials.name}\n" in path.read_text() and " " not in materials.name
    kd = [[float(x) for x in line.split()[1:]] for line in materials.read_text().splitlines() if line.startswith("Kd")]
    for tone in tones:
        assert np.abs(np.array(kd) - tone).max(axis=1).min() < 0.02
    scene = trimesh.load(path, process=False)
    for part in scene.geometry.values():
        front = part.triangles_center[:, 2]  # +X of object space
        diffuse = part.visual.material.diffuse[:3] / 255
        if (np.abs(front) > 0.1).any():
            np.testing.assert_allclose(diffuse, tones[int(front.mean() > 0)], atol=0.02)
    assert sum(len(g.faces) for g in scene.geometry.values()) == len(mesh.faces)


def test_an_obj_of_many_colours_keeps_to_a_handful_of_materials(mesh: Mesh, tmp_path: Path) -> None:
    text = mesh.write(tmp_path / "a.obj")[0].read_text()
    assert 4 < text.count("newmtl") <= MATERIALS


@pytest.mark.parametrize("name", ["a.fbx", "a.usd", "a", "a.glb.txt"])
def test_an_unknown_suffix_is_refused_with_the_choices(mesh: Mesh, name: str, tmp_path: Path) -> None:
    choices = r"\['\.glb', '\.gltf', '\.obj', '\.ply', '\.stl', '\.usdz'\]"
    with pytest.raises(ExportError, match=f"cannot write '.*'; choose one of {choices}"):
        mesh.write(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_suffix_may_be_in_capitals(mesh: Mesh, tmp_path: Path) -> None:
    assert mesh.write(str(tmp_path / "A.GLB")) == [tmp_path / "A.GLB"]


def test_an_empty_mesh_is_refused(tmp_path: Path) -> None:
    nothing = np.zeros((0, 3), dtype=np.float32)
    with pytest.raises(ExportError, match="no faces"):
        Mesh(nothing, nothing.astype(np.int64), nothing).write(tmp_path / "a.glb")


@pytest.mark.parametrize("suffix", [".gltf", ".obj"])
def test_a_failing_disk_leaves_the_old_file_and_no_partial_one(
    mesh: Mesh, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("old")
    write_bytes = Path.write_bytes

    def fail_on_the_main_file(self: Path, content: bytes) -> int:
        if suffix in self.name:
            raise OSError(28, "No space left on device")
        return write_bytes(self, content)

    monkeypatch.setattr(Path, "write_bytes", fail_on_the_main_file)
    with pytest.raises(OSError, match="No space"):
        mesh.write(path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2  # the sibling came first


def test_every_file_has_a_media_type(mesh: Mesh) -> None:
    names = [name for suffix in SUFFIXES for name in formats.encode([Part("a", mesh)], f"a{suffix}", "a", {})]
    assert {Path(name).suffix for name in names} <= set(MEDIA_TYPES)


def test_normals_left_out_come_from_the_faces() -> None:
    corner = Mesh(CORNER, np.array([[0, 1, 2]]), CORNER)
    np.testing.assert_allclose(corner.normals, np.full((3, 3), 3**-0.5), atol=1e-6)


def test_arrays_of_other_types_are_converted() -> None:
    init = unwrap(Mesh.__init__)  # without the check of types that tests run under
    mesh = Mesh.__new__(Mesh)
    init(mesh, CORNER.astype(np.float64).tolist(), np.array([[0, 1, 2]], dtype=np.uint32), CORNER.astype(np.float64))
    assert [a.dtype for a in (mesh.vertices, mesh.faces, mesh.colors, mesh.normals)] == ["f4", "i8", "f4", "f4"]


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    init, mesh = unwrap(Mesh.__init__), Mesh.__new__(Mesh)
    face = np.array([[0, 1, 2]])
    with pytest.raises(ExportError, match="faces name vertices 0 to 3, but there are 3"):
        init(mesh, CORNER, face + np.array([0, 0, 1]), CORNER)
    with pytest.raises(ExportError, match="2 colors for 3 vertices"):
        init(mesh, CORNER, face, CORNER[:2])
    with pytest.raises(ExportError, match="vertices hold values that are not finite"):
        init(mesh, CORNER * np.nan, face, CORNER)
    with pytest.raises(ExportError, match=r"faces have the shape \[1, 2\]"):
        init(mesh, CORNER, face[:, :2], CORNER)
