"""glTF 2.0: one file (.glb), or JSON with its buffer beside it (.gltf + .bin).

https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html; the numbers in capitals are the specification's.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import UInt16

from scaledreamer.errors import ExportError
from scaledreamer.export.axes import to_y_up
from scaledreamer.export.color import srgb_to_linear
from scaledreamer.export.geometry import Surface, unit
from scaledreamer.export.version import generator

UNSIGNED_SHORT, UNSIGNED_INT, FLOAT = 5123, 5125, 5126
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
GLB_MAGIC, GLB_JSON, GLB_BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
ROUGHNESS = 0.8


def linear_rgba(mesh: Surface) -> UInt16[np.ndarray, "V 4"]:
    """Linear colour in 16 bits with full alpha; 8 bits would lose the dark tones."""
    linear = srgb_to_linear(mesh.colors.astype(np.float64).clip(0, 1))
    rgba = np.ones((len(linear), 4))
    rgba[:, :3] = linear
    return np.asarray(np.rint(rgba * 65535), dtype=np.uint16)


def pack(mesh: Surface) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bytes]:
    """Accessors, buffer views and the buffer: indices, positions, normals, colours."""
    positions = to_y_up(mesh.vertices).astype("<f4")
    normals = to_y_up(unit(mesh.normals)).astype("<f4")
    colors = linear_rgba(mesh).astype("<u2")
    small = len(mesh.vertices) <= 65535  # the index 65535 itself is reserved
    indices = mesh.faces.ravel().astype("<u2" if small else "<u4")
    extent = {"min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()}
    columns: list[tuple[np.ndarray, int, dict[str, Any]]] = [
        (indices, ELEMENT_ARRAY_BUFFER, {"componentType": UNSIGNED_SHORT if small else UNSIGNED_INT, "type": "SCALAR"}),
        (positions, ARRAY_BUFFER, {"componentType": FLOAT, "type": "VEC3", **extent}),
        (normals, ARRAY_BUFFER, {"componentType": FLOAT, "type": "VEC3"}),
        (colors, ARRAY_BUFFER, {"componentType": UNSIGNED_SHORT, "type": "VEC4", "normalized": True}),
    ]
    accessors: list[dict[str, Any]] = []
    views: list[dict[str, Any]] = []
    buffer = bytearray()
    for array, target, layout in columns:
        accessors.append({"bufferView": len(views), "count": len(array), **layout})
        views.append({"buffer": 0, "byteOffset": len(buffer), "byteLength": array.nbytes, "target": target})
        buffer += array.tobytes()
        buffer += bytes(-len(buffer) % 4)
    return accessors, views, bytes(buffer)


def document(mesh: Surface, name: str, extras: Mapping[str, object], uri: str | None) -> tuple[dict[str, Any], bytes]:
    """The JSON part and the buffer it describes; `uri` is where the buffer lies, nothing inside a .glb."""
    accessors, views, buffer = pack(mesh)
    surface = {"baseColorFactor": [1, 1, 1, 1], "metallicFactor": 0, "roughnessFactor": ROUGHNESS}
    attributes = {"POSITION": 1, "NORMAL": 2, "COLOR_0": 3}
    noted = {"extras": dict(extras)} if extras else {}
    content = {
        "asset": {"version": "2.0", "generator": generator(), **noted},
        "scene": 0,
        "scenes": [{"name": name, "nodes": [0]}],
        "nodes": [{"name": name, "mesh": 0, **noted}],
        "meshes": [{"name": name, "primitives": [{"attributes": attributes, "indices": 0, "material": 0}]}],
        "materials": [{"name": "surface", "pbrMetallicRoughness": surface, "doubleSided": False}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{**({"uri": uri} if uri else {}), "byteLength": len(buffer)}],
    }
    return content, buffer


def as_json(content: dict[str, Any], indent: int | None = None) -> bytes:
    """ASCII JSON; extras that JSON cannot hold are refused."""
    try:
        separators = (",", ":") if indent is None else None
        return json.dumps(content, allow_nan=False, indent=indent, separators=separators).encode()
    except (TypeError, ValueError) as error:
        raise ExportError(f"cannot write extras {content['asset'].get('extras')!r:.200}: {error}") from error


def chunk(kind: int, content: bytes, padding: bytes) -> bytes:
    """A GLB chunk: length, kind, content up to a multiple of four bytes."""
    content += padding * (-len(content) % 4)
    return struct.pack("<II", len(content), kind) + content


def encode_glb(mesh: Surface, name: str, extras: Mapping[str, object]) -> bytes:
    """A binary glTF whose scene, node and mesh are called `name`."""
    content, buffer = document(mesh, name, extras, uri=None)
    chunks = chunk(GLB_JSON, as_json(content), b" ") + chunk(GLB_BIN, buffer, b"\0")
    return struct.pack("<III", GLB_MAGIC, 2, 12 + len(chunks)) + chunks


def encode_gltf(mesh: Surface, name: str, title: str, extras: Mapping[str, object]) -> dict[str, bytes]:
    """The buffer, then the JSON file `name` that refers to it; scene, node and mesh are called `title`."""
    stem = Path(name).stem
    content, buffer = document(mesh, title, extras, uri=quote(f"{stem}.bin"))
    return {f"{stem}.bin": buffer, name: as_json(content, indent=2) + b"\n"}
