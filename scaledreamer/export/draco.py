"""A GLB compressed by Draco, for the way through a network: an extra file, since not every reader knows the extension.

KHR_draco_mesh_compression,
https://github.com/KhronosGroup/glTF/blob/main/extensions/2.0/Khronos/KHR_draco_mesh_compression/README.md
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from scaledreamer.errors import ExportError
from scaledreamer.export.gltf import FLOAT, UNSIGNED_INT, UNSIGNED_SHORT, Document, Part, as_glb, document

EXTENSION = "KHR_draco_mesh_compression"
# A position is off by at most 1/32,000 of the longest side on each axis, a normal by some tenths of a degree, a texture
# coordinate by 1/8,000 of the picture, half a texel of 4096. Colours keep their 16 bits.
POSITION_BITS, NORMAL_BITS, UV_BITS = 14, 10, 12
LEVEL = 7  # of 0 (fast) to 10 (small)
COMPONENTS = {UNSIGNED_SHORT: "<u2", UNSIGNED_INT: "<u4", FLOAT: "<f4"}
KINDS = {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 3, "COLOR_0": 4}  # Draco's GeometryAttribute::Type; 4 is any other
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


def check_draco() -> None:
    """Raise ExportError where the library is not installed."""
    if find_spec("DracoPy") is None:
        raise ExportError("cannot compress a GLB without DracoPy; run: pip install 'scaledreamer[draco]'")


def encode_draco_glb(parts: Sequence[Part], name: str, extras: Mapping[str, object]) -> bytes:
    """What `encode_glb` makes, with the triangles of every part compressed; pictures stay as they are.

    Vertices come back in another order, equal ones as one, and faces that name a vertex twice are left out. Raises
    ExportError where DracoPy is not installed or nothing but such faces is there.
    """
    check_draco()
    content, beside = document(parts, name, extras, stem=None)
    buffer, made = beside[""], Document()
    for mesh in content["meshes"]:
        for primitive in mesh["primitives"]:
            compress(primitive, content, buffer, made)
    for image in content.get("images", []):
        image["bufferView"] = made.view(viewed(content, buffer, image["bufferView"]))
    content |= {
        "bufferViews": made.views, "buffers": [{"byteLength": len(made.buffer)}],
        "extensionsUsed": [EXTENSION], "extensionsRequired": [EXTENSION],
    }  # fmt: skip
    return as_glb(content, bytes(made.buffer))


def viewed(content: dict[str, Any], buffer: bytes, number: int) -> bytes:
    """What a buffer view shows."""
    view = content["bufferViews"][number]
    return buffer[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]


def accessed(content: dict[str, Any], buffer: bytes, number: int) -> np.ndarray:
    """The rows of an accessor."""
    accessor = content["accessors"][number]
    flat = np.frombuffer(viewed(content, buffer, accessor["bufferView"]), COMPONENTS[accessor["componentType"]])
    return flat.reshape(accessor["count"], WIDTHS[accessor["type"]])


def compress(primitive: dict[str, Any], content: dict[str, Any], buffer: bytes, made: Document) -> None:
    """Move the triangles of a primitive to a compressed view of the new document; its accessors tell what is there."""
    import DracoPy

    arrays = {key: accessed(content, buffer, number) for key, number in primitive["attributes"].items()}
    doubles = {key: array.astype(np.float64) for key, array in arrays.items()}  # DracoPy takes no other vectors
    try:
        encoded = DracoPy.encode(
            arrays["POSITION"],
            accessed(content, buffer, primitive["indices"]).reshape(-1, 3).astype(np.uint32),
            compression_level=LEVEL,
            quantization_bits=POSITION_BITS,
            normals=doubles.get("NORMAL"),
            normal_quantization_bits=NORMAL_BITS,
            tex_coord=doubles.get("TEXCOORD_0"),
            tex_coord_quantization_bits=UV_BITS,
            generic_attributes={0: arrays["COLOR_0"]} if "COLOR_0" in arrays else None,  # its own colours have 8 bits
        )
    except DracoPy.EncodingFailedException as error:
        raise ExportError(f"cannot compress a part of {content['scenes'][0]['name']!r} by Draco: {error}") from error
    decoded = DracoPy.decode(encoded)
    ids = {attribute["attribute_type"]: attribute["unique_id"] for attribute in decoded.attributes}
    attributes = {key: ids[KINDS[key]] for key in arrays}
    primitive["extensions"] = {EXTENSION: {"bufferView": made.view(encoded), "attributes": attributes}}
    for number in (primitive["indices"], *primitive["attributes"].values()):
        accessor = content["accessors"][number]
        del accessor["bufferView"]
        accessor["count"] = len(decoded.points)
    low, high = decoded.points.min(axis=0), decoded.points.max(axis=0)
    content["accessors"][primitive["attributes"]["POSITION"]] |= {"min": low.tolist(), "max": high.tolist()}
    content["accessors"][primitive["indices"]] |= {"count": decoded.faces.size, "componentType": UNSIGNED_INT}
