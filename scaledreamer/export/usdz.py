"""USDZ, the scene file of phones and of film tools: a USD stage and its texture in one archive, by usd-core.

https://openusd.org/release/spec_usdz.html, https://openusd.org/release/spec_usdpreviewsurface.html
"""

import io
import json
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from scaledreamer.errors import ExportError
from scaledreamer.export.axes import to_y_up
from scaledreamer.export.color import srgb_to_linear
from scaledreamer.export.geometry import Surface, unit
from scaledreamer.export.gltf import encode_png
from scaledreamer.export.version import generator

STAGE, PICTURE = "scene.usdc", "color.png"
ALIGNMENT = 64  # bytes; readers map the files of the archive where they lie
ENTRY_HEADER, PADDING_HEADER = 30, 4  # bytes before a file's name in the archive, and before its padding
PADDING = b"\x86\x19"  # the kind of extra field that USD's own writer pads with


def check_usd() -> None:
    """Raise ExportError where the library is not installed."""
    if find_spec("pxr") is None:
        raise ExportError("cannot write '.usdz' without usd-core; run: pip install 'scaledreamer[usd]'")


def encode_usdz(mesh: Surface, name: str, extras: Mapping[str, object]) -> bytes:
    """The archive of a mesh in metres, +Y up, front +Z; its default prim is called after `name`.

    The extras are the custom data of its layer. Raises ExportError where usd-core is not installed.
    """
    files = {STAGE: encode_stage(mesh, name, extras)}
    if mesh.texture is not None:
        files[PICTURE] = encode_png(mesh.texture)
    return archive(files)


def encode_stage(mesh: Surface, name: str, extras: Mapping[str, object]) -> bytes:
    """The stage as a binary USD file."""
    check_usd()
    from pxr import Kind, Sdf, Tf, Usd, UsdGeom

    stage = Usd.Stage.CreateInMemory(STAGE)
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    layer = stage.GetRootLayer()
    layer.customLayerData = {"creator": generator(), **{key: plain(key, value) for key, value in extras.items()}}
    path = Sdf.Path.absoluteRootPath.AppendChild(Tf.MakeValidIdentifier(name))
    root = UsdGeom.Xform.Define(stage, path).GetPrim()
    Usd.ModelAPI(root).SetKind(Kind.Tokens.component)
    stage.SetDefaultPrim(root)
    add_mesh(stage, path, mesh)
    with TemporaryDirectory() as folder:  # USD writes this format to files alone
        file = Path(folder) / STAGE
        layer.Export(str(file))
        return file.read_bytes()


def plain(key: str, value: object) -> str | bool | int | float:
    """A value as USD holds it: what is neither text nor a number as its JSON text. ExportError where there is none."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ExportError(f"cannot write extras {key!r}: {value!r:.200}: {error}") from error
    return value if isinstance(value, str | bool | int | float) else text


def add_mesh(stage: Any, path: Any, mesh: Surface) -> None:
    """The triangles below a prim, and the material that is bound to them."""
    from pxr import Sdf, UsdGeom, UsdShade, Vt

    shape = UsdGeom.Mesh.Define(stage, path.AppendChild("mesh"))
    points = to_y_up(mesh.vertices)
    shape.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    shape.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(points))
    shape.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(np.stack([points.min(axis=0), points.max(axis=0)])))
    shape.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    shape.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(mesh.faces.ravel().astype(np.int32)))
    shape.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(to_y_up(unit(mesh.normals)).astype(np.float32)))
    shape.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    primvars = UsdGeom.PrimvarsAPI(shape)
    if mesh.uvs is not None and mesh.texture is not None:
        st = primvars.CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex)
        st.Set(Vt.Vec2fArray.FromNumpy(mesh.uvs))
    else:
        linear = srgb_to_linear(mesh.colors.astype(np.float64).clip(0, 1)).astype(np.float32)
        color = primvars.CreatePrimvar("displayColor", Sdf.ValueTypeNames.Color3fArray, UsdGeom.Tokens.vertex)
        color.Set(Vt.Vec3fArray.FromNumpy(linear))
    material = add_material(stage, path.AppendChild("surface"), mesh)
    UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(material)


def add_material(stage: Any, path: Any, mesh: Surface) -> Any:
    """A UsdPreviewSurface whose diffuse colour is the texture, or the linear colour at the vertices."""
    from pxr import Sdf, UsdShade

    kinds = Sdf.ValueTypeNames

    def shader(name: str, kind: str, **inputs: tuple[Any, Any]) -> Any:
        made = UsdShade.Shader.Define(stage, path.AppendChild(name))
        made.CreateIdAttr(kind)
        for key, (value_type, value) in inputs.items():
            given = made.CreateInput(key, value_type)
            if isinstance(value, UsdShade.Output):
                given.ConnectToSource(value)
            else:
                given.Set(value)
        return made

    if mesh.texture is not None:
        reader = shader("st", "UsdPrimvarReader_float2", varname=(kinds.String, "st"))
        color = shader(
            "texture", "UsdUVTexture", file=(kinds.Asset, f"./{PICTURE}"), sourceColorSpace=(kinds.Token, "sRGB"),
            wrapS=(kinds.Token, "clamp"), wrapT=(kinds.Token, "clamp"),
            st=(kinds.Float2, reader.CreateOutput("result", kinds.Float2)),
        ).CreateOutput("rgb", kinds.Float3)  # fmt: skip
    else:
        reader = shader("color", "UsdPrimvarReader_float3", varname=(kinds.String, "displayColor"))
        color = reader.CreateOutput("result", kinds.Float3)
    surface = shader(
        "shading", "UsdPreviewSurface", diffuseColor=(kinds.Color3f, color),
        metallic=(kinds.Float, mesh.material.metallic), roughness=(kinds.Float, mesh.material.roughness),
    )  # fmt: skip
    material = UsdShade.Material.Define(stage, path)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", kinds.Token))
    return material


def archive(files: Mapping[str, bytes]) -> bytes:
    """A zip archive without compression whose files begin at multiples of 64 bytes, without dates."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as package:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            begin = whole.tell() + ENTRY_HEADER + len(name) + PADDING_HEADER
            padding = -begin % ALIGNMENT
            entry.extra = PADDING + padding.to_bytes(2, "little") + bytes(padding)
            package.writestr(entry, content)
    return whole.getvalue()
