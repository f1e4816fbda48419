"""glTF 2.0: one file (.glb), or JSON with its buffer and its texture beside it (.gltf + .bin + .png).

https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html; the numbers in capitals are the specification's. Only core
glTF is written, no extension, for released engines refuse files that require one (`draco.py` makes one beside it).
"""

import io
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from scaledreamer.errors import ExportError
from scaledreamer.export.axes import to_y_up
from scaledreamer.export.color import srgb_to_linear
from scaledreamer.export.geometry import Surface, unit
from scaledreamer.export.version import generator

UNSIGNED_SHORT, UNSIGNED_INT, FLOAT = 5123, 5125, 5126
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP_TO_EDGE = 9729, 9987, 33071
GLB_MAGIC, GLB_JSON, GLB_BIN = 0x46546C67, 0x4E4F534A, 0x004E4942


@dataclass(frozen=True)
class Part:
    """A node of a file: a surface that is seen, or one that things collide with, which has a shape and nothing else."""

    name: str
    mesh: Surface
    seen: bool = True


def linear_rgba(mesh: Surface) -> UInt16[np.ndarray, "V 4"]:
    """Linear colour in 16 bits with full alpha; 8 bits would lose the dark tones."""
    linear = srgb_to_linear(mesh.colors.astype(np.float64).clip(0, 1))
    rgba = np.ones((len(linear), 4))
    rgba[:, :3] = linear
    return np.asarray(np.rint(rgba * 65535), dtype=np.uint16)


def encode_png(texture: UInt8[np.ndarray, "S S 3"]) -> bytes:
    """The texture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(texture, "RGB").save(file, format="PNG")
    return file.getvalue()


@dataclass
class Document:
    """The lists of a glTF file as they grow, and the buffer that they describe."""

    accessors: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    meshes: list[dict[str, Any]] = field(default_factory=list)
    materials: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    buffer: bytearray = field(default_factory=bytearray)

    def view(self, content: bytes, **layout: Any) -> int:
        """The number of a new buffer view."""
        self.views.append({"buffer": 0, "byteOffset": len(self.buffer), "byteLength": len(content), **layout})
        self.buffer += content
        self.buffer += bytes(-len(self.buffer) % 4)
        return len(self.views) - 1

    def accessor(self, array: np.ndarray, target: int, **layout: Any) -> int:
        """The number of a new accessor."""
        view = self.view(array.tobytes(), target=target)
        self.accessors.append({"bufferView": view, "count": len(array), **layout})
        return len(self.accessors) - 1

    def add(self, part: Part) -> int:
        """The number of a new mesh: positions, normals, texture coordinates or colours, and its material."""
        mesh = part.mesh
        positions = to_y_up(mesh.vertices).astype("<f4")
        small = len(positions) <= 65535  # the index 65535 itself is reserved
        indices = mesh.faces.ravel().astype("<u2" if small else "<u4")
        kind = UNSIGNED_SHORT if small else UNSIGNED_INT
        extent = {"min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()}
        primitive: dict[str, Any] = {
            "indices": self.accessor(indices, ELEMENT_ARRAY_BUFFER, componentType=kind, type="SCALAR")
        }
        vectors = {"componentType": FLOAT, "type": "VEC3"}
        attributes = {"POSITION": self.accessor(positions, ARRAY_BUFFER, **vectors, **extent)}
        if part.seen:
            normals = to_y_up(unit(mesh.normals)).astype("<f4")
            attributes["NORMAL"] = self.accessor(normals, ARRAY_BUFFER, **vectors)
            if mesh.uvs is not None and mesh.texture is not None:
                down = (mesh.uvs * [1, -1] + [0, 1]).astype("<f4")  # glTF counts v from the upper row on
                attributes["TEXCOORD_0"] = self.accessor(down, ARRAY_BUFFER, componentType=FLOAT, type="VEC2")
            else:
                layout = {"componentType": UNSIGNED_SHORT, "type": "VEC4", "normalized": True}
                attributes["COLOR_0"] = self.accessor(linear_rgba(mesh).astype("<u2"), ARRAY_BUFFER, **layout)
            primitive["material"] = self.material(mesh)
        self.meshes.append({"name": part.name, "primitives": [{"attributes": attributes, **primitive}]})
        return len(self.meshes) - 1

    def material(self, mesh: Surface) -> int:
        """The number of the material of a mesh, a new one unless another has the same picture and factors."""
        factors: dict[str, Any] = {"metallicFactor": mesh.material.metallic, "roughnessFactor": mesh.material.roughness}
        if mesh.texture is not None:
            picture = encode_png(mesh.texture)
            if picture not in self.pictures:
                self.pictures.append(picture)
            factors["baseColorTexture"] = {"index": self.pictures.index(picture)}
        else:
            factors["baseColorFactor"] = [1, 1, 1, 1]
        for number, known in enumerate(self.materials):
            if known["pbrMetallicRoughness"] == factors:
                return number
        number = len(self.materials)
        name = "surface" if number == 0 else f"surface-{number}"
        self.materials.append({"name": name, "pbrMetallicRoughness": factors, "doubleSided": False})
        return number


def document(
    parts: Sequence[Part], name: str, extras: Mapping[str, object], stem: str | None
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The JSON part, and the files beside it by name; without a stem (.glb) everything lies in one buffer, named ""."""
    made = Document()
    numbers = [made.add(part) for part in parts]
    noted = {"extras": dict(extras)} if extras else {}
    root: dict[str, Any] = {"name": name, **noted}
    if len(parts) == 1:
        nodes = [{**root, "mesh": 0}]
    else:
        children = [{"name": part.name, "mesh": number} for part, number in zip(parts, numbers, strict=True)]
        nodes = [{**root, "children": list(range(1, len(children) + 1))}, *children]
    beside: dict[str, bytes] = {}
    images = []
    for number, picture in enumerate(made.pictures):
        if stem is None:
            images.append({"name": f"color-{number}", "bufferView": made.view(picture), "mimeType": "image/png"})
        else:
            file = picture_name(stem, number)
            beside[file] = picture
            images.append({"name": f"color-{number}", "uri": quote(file)})
    buffer: dict[str, Any] = {"byteLength": len(made.buffer)}
    if stem is not None:
        buffer["uri"] = quote(f"{stem}.bin")
    beside["" if stem is None else f"{stem}.bin"] = bytes(made.buffer)
    content = {
        "asset": {"version": "2.0", "generator": generator(), **noted},
        "scene": 0,
        "scenes": [{"name": name, "nodes": [0]}],
        "nodes": nodes,
        "meshes": made.meshes,
        **({"materials": made.materials} if made.materials else {}),
        "accessors": made.accessors,
        "bufferViews": made.views,
        "buffers": [buffer],
    }
    if images:
        sampler = {
            "magFilter": LINEAR,
            "minFilter": LINEAR_MIPMAP_LINEAR,
            "wrapS": CLAMP_TO_EDGE,
            "wrapT": CLAMP_TO_EDGE,
        }
        content["samplers"] = [sampler]
        content["textures"] = [{"sampler": 0, "source": number} for number in range(len(images))]
        content["images"] = images
    return content, beside


def picture_name(stem: str, number: int) -> str:
    """What the texture beside a .gltf or an .obj is called."""
    return f"{stem}_color.png" if number == 0 else f"{stem}_color-{number}.png"


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


def encode_glb(parts: Sequence[Part], name: str, extras: Mapping[str, object]) -> bytes:
    """A binary glTF whose scene and root node are called `name`."""
    content, beside = document(parts, name, extras, stem=None)
    return as_glb(content, beside[""])


def as_glb(content: dict[str, Any], buffer: bytes) -> bytes:
    """The JSON part and its buffer as one file."""
    chunks = chunk(GLB_JSON, as_json(content), b" ") + chunk(GLB_BIN, buffer, b"\0")
    return struct.pack("<III", GLB_MAGIC, 2, 12 + len(chunks)) + chunks


def encode_gltf(parts: Sequence[Part], file: str, name: str, extras: Mapping[str, object]) -> dict[str, bytes]:
    """The buffer and the textures, then the JSON file that refers to them; scene and root node are called `name`."""
    content, beside = document(parts, name, extras, stem=Path(file).stem)
    return {**beside, file: as_json(content, indent=2) + b"\n"}
