"""USDZ as OpenUSD itself reads it: the same triangles, colours and units, and nothing that its validators mind."""

import hashlib
import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade, UsdUtils, UsdValidation
from typer.testing import CliRunner

from scaledreamer.batch import read_rows
from scaledreamer.cli import app
from scaledreamer.errors import ConfigError, ExportError
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.export.color import linear_to_srgb
from scaledreamer.export.formats import encode
from scaledreamer.export.gltf import Part
from scaledreamer.export.materials import Material
from tests.export.fields import Analytic, ball, cone

REMEDY = r"pip install 'scaledreamer\[usd\]'"
TRIANGLE = """
import hashlib
import numpy as np
from scaledreamer.export.mesh import Mesh
from scaledreamer.export.usdz import encode_usdz

corners = np.eye(3, dtype=np.float32)
mesh = Mesh(corners, np.array([[0, 1, 2]]), corners, uvs=corners[:, :2], texture=np.full((4, 4, 3), 7, np.uint8))
digest = hashlib.sha256(encode_usdz(mesh, "a", {"prompt": "a", "seed": 3})).hexdigest()
"""


@pytest.fixture(scope="module")
def plain() -> Mesh:
    """A cone along +X, a little above the origin, coloured at its vertices."""
    return extract_mesh(Analytic((cone(),)), resolution=24)


@pytest.fixture(scope="module")
def textured(plain: Mesh) -> Mesh:
    rng = np.random.default_rng(0)
    uvs, texture = rng.random((len(plain.vertices), 2), np.float32), rng.integers(0, 256, (32, 32, 3), np.uint8)
    return replace(plain, uvs=uvs, texture=texture, material=Material(1.0, 0.25, "gold"))


def opened(mesh: Mesh, folder: Path, extras: dict[str, object] | None = None) -> Usd.Stage:
    (path,) = mesh.write(folder / "a prop.usdz", extras)
    return Usd.Stage.Open(str(path))


def shape_of(stage: Usd.Stage) -> UsdGeom.Mesh:
    (shape,) = (prim for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh))
    return UsdGeom.Mesh(shape)


def surface_of(stage: Usd.Stage) -> UsdShade.Shader:
    material, _ = UsdShade.MaterialBindingAPI(shape_of(stage)).ComputeBoundMaterial()
    return material.ComputeSurfaceSource()[0]


def source_of(shader: UsdShade.Shader, name: str) -> UsdShade.Shader:
    ((source,), _) = shader.GetInput(name).GetConnectedSources()
    return UsdShade.Shader(source.source.GetPrim())


def test_the_triangles_come_back_in_metres_with_y_up_and_the_front_along_z(plain: Mesh, tmp_path: Path) -> None:
    stage = opened(plain, tmp_path)
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    shape = shape_of(stage)
    points = np.array(shape.GetPointsAttr().Get())
    np.testing.assert_array_equal(points, plain.vertices[:, [1, 2, 0]])
    np.testing.assert_allclose(points[np.argmax(points[:, 2])], [0, 0.2, 0.5], atol=0.1)  # the tip
    np.testing.assert_array_equal(np.array(shape.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3), plain.faces)
    assert set(shape.GetFaceVertexCountsAttr().Get()) == {3} and shape.GetOrientationAttr().Get() == "rightHanded"
    assert shape.GetSubdivisionSchemeAttr().Get() == "none" and shape.GetNormalsInterpolation() == "vertex"
    np.testing.assert_allclose(np.array(shape.GetNormalsAttr().Get()), plain.normals[:, [1, 2, 0]], atol=1e-6)
    np.testing.assert_array_equal(shape.GetExtentAttr().Get(), [points.min(axis=0), points.max(axis=0)])
    assert UsdGeom.Xformable(shape).ComputeLocalToWorldTransform(0) == Gf.Matrix4d(1)


def test_a_texture_and_its_coordinates_come_back(textured: Mesh, tmp_path: Path) -> None:
    stage = opened(textured, tmp_path)
    st = UsdGeom.PrimvarsAPI(shape_of(stage)).GetPrimvar("st")
    assert (st.GetInterpolation(), st.GetTypeName()) == ("vertex", Sdf.ValueTypeNames.TexCoord2fArray)
    np.testing.assert_array_equal(np.array(st.Get()), textured.uvs)  # USD, too, counts v from the lower row on
    picture = source_of(surface_of(stage), "diffuseColor")
    said = {name: picture.GetInput(name).Get() for name in ("sourceColorSpace", "wrapS", "wrapT")}
    assert said == {"sourceColorSpace": "sRGB", "wrapS": "clamp", "wrapT": "clamp"}
    assert source_of(picture, "st").GetInput("varname").Get() == "st"
    with zipfile.ZipFile(tmp_path / "a prop.usdz") as package:
        content = package.read(picture.GetInput("file").Get().path.removeprefix("./"))
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(content))), textured.texture)
    assert not UsdGeom.PrimvarsAPI(shape_of(stage)).GetPrimvar("displayColor").HasAuthoredValue()


def test_without_a_texture_the_colours_are_linear_and_at_the_vertices(plain: Mesh, tmp_path: Path) -> None:
    stage = opened(plain, tmp_path)
    color = UsdGeom.PrimvarsAPI(shape_of(stage)).GetPrimvar("displayColor")
    assert color.GetInterpolation() == "vertex"
    np.testing.assert_allclose(linear_to_srgb(np.array(color.Get(), np.float64)), plain.colors, atol=1e-5)
    assert source_of(surface_of(stage), "diffuseColor").GetInput("varname").Get() == "displayColor"


def test_the_surface_shines_as_the_material_says(textured: Mesh, tmp_path: Path) -> None:
    stage = opened(textured, tmp_path)  # kept, for its prims end with it
    surface = surface_of(stage)
    assert surface.GetIdAttr().Get() == "UsdPreviewSurface"
    assert [surface.GetInput(name).Get() for name in ("metallic", "roughness")] == [1.0, 0.25]


def test_the_stage_says_what_it_is_of(plain: Mesh, tmp_path: Path) -> None:
    extras = {"prompt": "a red cône", "seed": 2**63 - 1, "share": 0.5, "made": True, "blend": ["a", 1]}
    stage = opened(plain, tmp_path, extras)
    said = stage.GetRootLayer().customLayerData
    assert said.pop("creator").startswith("ScaleDreamer") and said == {**extras, "blend": '["a", 1]'}
    assert stage.GetDefaultPrim().GetPath() == "/a_red_cone"


def test_of_many_parts_it_holds_the_first(plain: Mesh) -> None:
    other = extract_mesh(Analytic((ball(),)), resolution=16)
    parts = [Part("a", plain), Part("b", other)]
    assert encode(parts, "a.usdz", "a", {}) == encode(parts[:1], "a.usdz", "a", {})


@pytest.mark.parametrize("name", ["plain", "textured"])
def test_the_validators_of_openusd_and_the_arkit_packager_have_nothing_to_say(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    stage = opened(request.getfixturevalue(name), tmp_path, {"prompt": name})
    validators = UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    assert "usdUtilsValidators:UsdzPackageValidator" in {validator.GetMetadata().name for validator in validators}
    errors = UsdValidation.ValidationContext(validators).Validate(stage)
    assert [error.GetErrorAsString() for error in errors] == []
    path = str(tmp_path / "a prop.usdz")
    _, found, missing = UsdUtils.ComputeAllDependencies(path)
    assert (found, missing) == ([f"{path}[color.png]"] if name == "textured" else [], [])
    assert UsdUtils.CreateNewARKitUsdzPackage(path, str(tmp_path / "again.usdz"))


def test_the_archive_is_stored_without_dates_and_aligned(textured: Mesh, tmp_path: Path) -> None:
    (path,) = textured.write(tmp_path / "a.usdz")
    package = Sdf.ZipFile.Open(str(path))
    assert package.GetFileNames() == ["scene.usdc", "color.png"]
    assert [package.GetFileInfo(name).dataOffset % 64 for name in package.GetFileNames()] == [0, 0]
    with zipfile.ZipFile(path) as read:
        assert read.testzip() is None
        assert {(info.compress_type, info.date_time[0]) for info in read.infolist()} == {(zipfile.ZIP_STORED, 1980)}


def test_the_bytes_depend_on_the_mesh_and_the_extras_alone(textured: Mesh, tmp_path: Path) -> None:
    (first,) = textured.write(tmp_path / "first.usdz", {"prompt": "a cone"})
    (second,) = textured.write(tmp_path / "elsewhere" / "second.USDZ", {"prompt": "a cone"})
    assert first.read_bytes() == second.read_bytes()


def test_another_process_makes_the_same_bytes(tmp_path: Path) -> None:
    here: dict[str, str] = {}
    exec(TRIANGLE, here)
    environment = {"TMPDIR": str(tmp_path), "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", f"{TRIANGLE}\nprint(digest)"]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    assert here["digest"] == there and len(there) == 2 * hashlib.sha256().digest_size


def test_extras_that_are_no_value_are_refused(plain: Mesh, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="cannot write extras 'cfg': nan"):
        plain.write(tmp_path / "a.usdz", {"cfg": float("nan")})
    assert not list(tmp_path.iterdir())


def test_without_the_library_the_remedy_is_named_before_any_work(
    plain: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(ExportError, match=REMEDY):
        plain.write(tmp_path / "a.usdz")
    said = CliRunner().invoke(app, ["generate", "a cone", "-o", str(tmp_path / "a.usdz"), "--model", "missing"])
    assert isinstance(said.exception, ExportError) and "usd-core" in str(said.exception)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a cone"}\n{"prompt": "a mug", "formats": [".usdz"]}\n')
    with pytest.raises(ConfigError, match=rf"line 2: .*{REMEDY}"):
        read_rows(rows, {}, (".glb",))
    assert plain.write(tmp_path / "a.glb")
