"""From a field to a finished asset: what the settings promise holds on the meshes and in the files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from pydantic import BaseModel

from scaledreamer.errors import ConfigError, ExportError
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.export import unwrap as unwrapping
from scaledreamer.export.facts import measure
from scaledreamer.export.finish import Asset, finish_field, finish_mesh
from scaledreamer.export.package import encode_main, extras_of, write_package
from scaledreamer.export.presets import PRESETS, asset_settings
from scaledreamer.export.report import Manifest, Report
from tests.export.fields import FIELDS, Analytic, ball, box, union

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
FIELD = Analytic((union(ball(0, 0, 0.2, 0.45), box((-0.3, -0.25, -0.8), (0.3, 0.25, 0.1))),))
SMALL = asset_settings("prop", resolution=48, faces=900, texture=256, lods=2, thumbnail=64)


@pytest.fixture(scope="module")
def asset() -> Asset:
    return finish_field(FIELD, SMALL, "a small wooden mug, model_col", "props")


def test_an_asset_is_closed_and_within_its_budget(asset: Asset) -> None:
    for level in asset.levels:
        facts = measure(level)
        assert facts.watertight and facts.winding_consistent and facts.nonmanifold_edges == 0 and facts.volume > 0
    assert 0.98 * 900 <= len(asset.levels[0].faces) <= 900
    counts = [len(level.faces) for level in asset.levels]
    assert len(counts) == 3 and counts == sorted(set(counts), reverse=True)


def test_an_asset_stands_on_the_ground_in_metres(asset: Asset) -> None:
    low, high = asset.levels[0].vertices.min(axis=0), asset.levels[0].vertices.max(axis=0)
    assert low[2] == 0 and abs(low[:2] + high[:2]).max() < 1e-6 * 0.1
    assert (high - low).max() == np.float32(0.1) and asset.report.size.source == "estimated"  # a mug
    np.testing.assert_allclose(asset.report.size.extent_m, high - low)


def test_a_size_that_is_asked_for_is_exact() -> None:
    made = finish_field(FIELD, replace_settings(size=1.75, axis="z", texture=0, lods=0), "a thing", "props")
    assert float(np.ptp(made.levels[0].vertices[:, 2])) == 1.75 and made.report.size.source == "explicit"


def replace_settings(**given: object) -> object:
    return SMALL.model_copy(update=given)


def test_every_level_has_a_picture_of_the_field(asset: Asset) -> None:
    for number, level in enumerate(asset.levels):
        assert level.uvs is not None and level.texture is not None
        assert level.uvs.min() >= 0 and level.uvs.max() <= 1
        assert asset.report.levels[number].texture == len(level.texture) == 256


def test_levels_and_hull_stay_where_the_asset_is(asset: Asset) -> None:
    whole = asset.levels[0].vertices
    for mesh in [*asset.levels[1:], *asset.collision]:
        np.testing.assert_allclose(mesh.vertices.min(axis=0), whole.min(axis=0), atol=0.01)
        np.testing.assert_allclose(mesh.vertices.max(axis=0), whole.max(axis=0), atol=0.01)
    assert all(trimesh.Trimesh(part.vertices, part.faces).is_convex for part in asset.collision)


def test_a_material_word_decides_how_it_shines(asset: Asset) -> None:
    assert asset.report.material.source == "wooden" and asset.levels[0].material.roughness == 0.85


def test_the_name_is_safe(asset: Asset) -> None:
    assert asset.name.isascii() and not asset.name.endswith("col")


def test_the_same_field_gives_the_same_bytes(asset: Asset) -> None:
    again = finish_field(FIELD, SMALL, "a small wooden mug, model_col", "props")
    assert encode_main(again, "a.glb", {}) == encode_main(asset, "a.glb", {})
    assert again.report == asset.report


def test_a_glb_holds_what_the_asset_is(asset: Asset, tmp_path: Path) -> None:
    (name, content), *_ = encode_main(asset, "mug.glb", extras_of(asset, "Apache-2.0")).items()
    (tmp_path / name).write_bytes(content)
    scene = trimesh.load(tmp_path / name)
    (seen,) = scene.geometry.values()
    assert len(seen.faces) == len(asset.levels[0].faces) and seen.visual.uv is not None
    assert seen.bounds[0, 1] == 0, "glTF has +Y up"
    length = int.from_bytes(content[12:16], "little")
    said = json.loads(content[20 : 20 + length])
    for place in (said["asset"]["extras"], said["nodes"][0]["extras"]):
        assert place["model"] == "props" and len(place["prompt_sha256"]) == 64 and place["licence"] == "Apache-2.0"
    material = said["materials"][0]["pbrMetallicRoughness"]
    assert material["roughnessFactor"] == 0.85 and "baseColorTexture" in material
    assert "COLOR_0" not in said["meshes"][0]["primitives"][0]["attributes"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("generic", ["{}"]),
        ("blender", ["{}"]),
        ("unity", ["{}", "{}_LOD0", "{}_LOD1", "{}_LOD2"]),
        ("godot", ["{}", "{}", "{}_0-convcolonly"]),
        ("unreal", ["{}", "{}", "UCX_{}_00"]),
    ],
)
def test_an_engine_finds_the_names_that_it_knows(asset: Asset, target: str, expected: list[str]) -> None:
    settings = asset.report.settings.model_copy(update={"target": target})
    aimed = replace(asset, report=asset.report.model_copy(update={"settings": settings}))
    content = encode_main(aimed, "a.gltf", {})["a.gltf"]
    names = [node["name"] for node in json.loads(content)["nodes"]]
    assert names == [name.format(asset.name) for name in expected]


def test_a_folder_holds_every_file_that_its_manifest_names(asset: Asset, tmp_path: Path) -> None:
    manifest = write_package(asset, tmp_path, [".glb", ".gltf", ".obj", ".ply", ".stl"], extras_of(asset, None))
    assert {file.name for file in manifest.files} == {path.name for path in tmp_path.iterdir()} - {"manifest.json"}
    assert Manifest.model_validate_json((tmp_path / "manifest.json").read_text()) == manifest
    assert Report.model_validate_json((tmp_path / "report.json").read_text()) == asset.report
    roles = {file.role for file in manifest.files}
    assert roles == {"mesh", "lod", "collision", "texture", "material", "buffer", "thumbnail", "report"}
    assert all((tmp_path / file.name).stat().st_size == file.bytes for file in manifest.files)


@pytest.mark.parametrize(("name", "kind"), [("report", Report), ("manifest", Manifest)])
def test_the_schemas_are_published_as_they_are(name: str, kind: type[BaseModel]) -> None:
    assert json.loads((SCHEMAS / f"{name}.schema.json").read_text()) == kind.model_json_schema()


def test_raw_is_the_extraction_itself() -> None:
    made = finish_field(FIELD, asset_settings("raw", resolution=32), "a thing", "props")
    mesh = extract_mesh(FIELD, 32)
    np.testing.assert_array_equal(made.levels[0].vertices, mesh.vertices)
    np.testing.assert_array_equal(made.levels[0].faces, mesh.faces)
    assert made.collision == [] and made.report.steps == [] and made.levels[0].texture is None


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_makes_a_closed_asset(preset: str) -> None:
    settings = asset_settings(preset, resolution=32, texture=0, lods=0, thumbnail=0, collision="none")
    made = finish_field(FIELDS["two balls far apart"], settings, "two balls", "props")
    assert measure(made.levels[0]).watertight and made.report.settings.preset == preset


def test_a_hung_unwrap_does_not_hold_the_asset_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hung = tmp_path / "hung.py"
    hung.write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(unwrapping, "WORKER", hung)
    settings = asset_settings("prop", resolution=32, faces=300, texture=256, lods=0, unwrap_budget_s=0.5, thumbnail=0)
    made = finish_field(FIELD, settings, "a thing", "props")
    assert "texture of level 0" in made.report.degraded[0] and made.levels[0].texture is not None
    assert made.seconds["texture"] < 60


def grid_mesh(vertices: list[list[float]], faces: list[list[int]]) -> Mesh:
    count = len(vertices)
    return Mesh(np.array(vertices, np.float32), np.array(faces, np.int64), np.full((count, 3), 0.5, np.float32))


def test_a_mesh_alone_is_finished_with_its_own_colours() -> None:
    mesh = extract_mesh(FIELD, 40)
    made = finish_mesh(mesh, asset_settings("prop", faces=600, texture=256, lods=1, thumbnail=0), "a thing")
    assert measure(made.levels[0]).watertight and made.levels[0].texture is not None
    colors = made.levels[0].texture.reshape(-1, 3) / 255
    assert np.abs(colors.mean(axis=0) - mesh.colors.mean(axis=0)).max() < 0.1


def test_an_open_mesh_is_closed() -> None:
    mesh = extract_mesh(FIELD, 40)
    holed = Mesh(mesh.vertices, mesh.faces[40:], mesh.colors)
    assert not measure(holed).watertight
    made = finish_mesh(holed, asset_settings("prop", faces=None, texture=0, lods=0, thumbnail=0), "a thing")
    assert measure(made.levels[0]).watertight and [step.step for step in made.report.steps][-1] in ("holes", "winding")


def test_single_triangles_become_one_mesh_again() -> None:
    mesh = extract_mesh(FIELD, 40)
    soup = Mesh(
        mesh.vertices[mesh.faces].reshape(-1, 3),
        np.arange(mesh.faces.size).reshape(-1, 3),
        mesh.colors[mesh.faces].reshape(-1, 3),
    )
    made = finish_mesh(soup, asset_settings("prop", faces=None, texture=0, lods=0, thumbnail=0), "a thing")
    assert measure(made.levels[0]).watertight
    assert (len(made.levels[0].vertices), len(made.levels[0].faces)) == (len(mesh.vertices), len(mesh.faces))


@pytest.mark.parametrize(
    "mesh",
    [
        Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64), np.zeros((0, 3), np.float32)),
        grid_mesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]]),
    ],
)
def test_nothing_is_refused_as_nothing(mesh: Mesh) -> None:
    with pytest.raises(ExportError, match=r"no faces|degenerate"):
        finish_mesh(mesh, SMALL, "a thing")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "propp"}, r"unknown preset 'propp'; choose one of \['raw'"),
        ({"facess": 10}, r"facess"),
        ({"texture": 300}, r"texture"),
        ({"size": -1}, r"size"),
        ({"resolution": 1000}, r"resolution.*1000"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        asset_settings(**given)  # type: ignore[arg-type]


def test_the_stages_are_told_in_their_order() -> None:
    told: list[tuple[str, float]] = []
    settings = asset_settings("prop", resolution=32, faces=300, texture=256, lods=0, thumbnail=0)
    finish_field(FIELD, settings, "a thing", "props", lambda name, share: told.append((name, share)))
    assert [name for name, _ in told] == ["extract", "clean", "simplify", "lods", "collision", "texture"]
    assert [share for _, share in told] == sorted({share for _, share in told})


def test_extraction_keeps_no_gradient_in_a_finished_asset() -> None:
    radius = torch.tensor(0.5, requires_grad=True)
    finish_field(
        Analytic((lambda p: p.norm(dim=-1) - radius,)), asset_settings("raw", resolution=32), "a ball", "props"
    )
    assert radius.grad is None
