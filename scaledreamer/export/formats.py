"""The file formats a mesh can be written in, by suffix."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from scaledreamer.errors import ExportError
from scaledreamer.export.geometry import Surface
from scaledreamer.export.gltf import Part, encode_glb, encode_gltf
from scaledreamer.export.names import slug
from scaledreamer.export.obj import encode_obj
from scaledreamer.export.ply import encode_ply
from scaledreamer.export.stl import encode_stl
from scaledreamer.export.usdz import check_usd, encode_usdz
from scaledreamer.files import atomic_path

SUFFIXES = [".glb", ".gltf", ".obj", ".ply", ".stl", ".usdz"]
MEDIA_TYPES = {
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".bin": "application/gltf-buffer",
    ".obj": "model/obj",
    ".mtl": "model/mtl",
    ".png": "image/png",
    ".webp": "image/webp",
    ".json": "application/json",
    ".ply": "application/octet-stream",  # no registered type
    ".stl": "model/stl",
    ".usdz": "model/vnd.usdz+zip",
}


AXES = {
    ".glb": "+Y up, front +Z", ".gltf": "+Y up, front +Z", ".obj": "+Y up, front +Z",
    ".ply": "+Z up, front +X", ".stl": "+Z up, front +X", ".usdz": "+Y up, front +Z",
}  # fmt: skip


def check_libraries(suffixes: Iterable[str]) -> None:
    """Raise ExportError, before any work, where one of the formats needs a library that is not installed."""
    if ".usdz" in suffixes:
        check_usd()


def encode(parts: Sequence[Part], file: str, name: str, extras: Mapping[str, object]) -> dict[str, bytes]:
    """The contents of a file and of its siblings, by file name; the file itself comes last.

    glTF holds all parts, under a root that is called `name`; the other formats hold the first one.
    """
    suffix = Path(file).suffix.lower()
    if suffix not in SUFFIXES:
        raise ExportError(f"cannot write {suffix or file!r}; choose one of {SUFFIXES}")
    if any(len(part.mesh.faces) == 0 for part in parts):
        raise ExportError(f"cannot write {file!r}: the mesh has no faces")
    match suffix:
        case ".glb":
            return {file: encode_glb(parts, name, extras)}
        case ".gltf":
            return encode_gltf(parts, file, name, extras)
        case ".obj":
            return encode_obj(parts[0].mesh, file)
        case ".ply":
            return {file: encode_ply(parts[0].mesh)}
        case ".stl":
            return {file: encode_stl(parts[0].mesh)}
        case _:
            return {file: encode_usdz(parts[0].mesh, name, extras)}


def write(mesh: Surface, path: Path, extras: Mapping[str, object]) -> list[Path]:
    """Write a mesh; each file appears whole, siblings before the file that refers to them.

    Inside a glTF or a USDZ it is called after its prompt, so that the bytes do not depend on the file's name.
    """
    name = slug(str(extras.get("prompt", "mesh")))
    paths = []
    for file, content in encode([Part(name, mesh)], path.name, name, extras).items():
        with atomic_path(path.with_name(file)) as partial:
            partial.write_bytes(content)
        paths.append(path.with_name(file))
    return paths
