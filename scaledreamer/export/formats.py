"""The file formats a mesh can be written in, by suffix."""

from collections.abc import Mapping
from pathlib import Path

from scaledreamer.errors import ExportError
from scaledreamer.export.geometry import Surface
from scaledreamer.export.gltf import encode_glb, encode_gltf
from scaledreamer.export.obj import encode_obj
from scaledreamer.export.ply import encode_ply
from scaledreamer.export.stl import encode_stl
from scaledreamer.files import atomic_path

SUFFIXES = [".glb", ".gltf", ".obj", ".ply", ".stl"]
MEDIA_TYPES = {
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".bin": "application/gltf-buffer",
    ".obj": "model/obj",
    ".mtl": "model/mtl",
    ".ply": "application/octet-stream",  # no registered type
    ".stl": "model/stl",
}


def title(extras: Mapping[str, object]) -> str:
    """What the object is called inside a glTF: its prompt, so that the bytes do not depend on the file's name."""
    return str(extras.get("prompt", "mesh"))


def encode(mesh: Surface, name: str, extras: Mapping[str, object]) -> dict[str, bytes]:
    """The contents of the file `name` and of its siblings, by file name; `name` itself comes last."""
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise ExportError(f"cannot write {suffix or name!r}; choose one of {SUFFIXES}")
    if len(mesh.faces) == 0:
        raise ExportError(f"cannot write {name!r}: the mesh has no faces")
    match suffix:
        case ".glb":
            return {name: encode_glb(mesh, title(extras), extras)}
        case ".gltf":
            return encode_gltf(mesh, name, title(extras), extras)
        case ".obj":
            return encode_obj(mesh, name)
        case ".ply":
            return {name: encode_ply(mesh)}
        case _:
            return {name: encode_stl(mesh)}


def write(mesh: Surface, path: Path, extras: Mapping[str, object]) -> list[Path]:
    """Write a mesh; each file appears whole, siblings before the file that refers to them."""
    paths = []
    for name, content in encode(mesh, path.name, extras).items():
        with atomic_path(path.with_name(name)) as partial:
            partial.write_bytes(content)
        paths.append(path.with_name(name))
    return paths
