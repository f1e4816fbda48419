"""PLY, binary little-endian: positions, normals and sRGB bytes; object space as it is (+Z up)."""

import numpy as np

from scaledreamer.export.geometry import Surface
from scaledreamer.export.version import generator

VERTEX = np.dtype([("position", "<f4", 3), ("normal", "<f4", 3), ("color", "u1", 3)])
FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])
HEADER = """ply
format binary_little_endian 1.0
comment {generator}
comment +Z up, front +X
element vertex {vertices}
property float x
property float y
property float z
property float nx
property float ny
property float nz
property uchar red
property uchar green
property uchar blue
element face {faces}
property list uchar int vertex_indices
end_header
"""


def encode_ply(mesh: Surface) -> bytes:
    """The contents of a .ply file."""
    vertices, faces = np.zeros(len(mesh.vertices), VERTEX), np.zeros(len(mesh.faces), FACE)
    vertices["position"], vertices["normal"] = mesh.vertices, mesh.normals
    vertices["color"] = np.rint(mesh.colors.clip(0, 1) * 255)
    faces["count"], faces["corners"] = 3, mesh.faces
    header = HEADER.format(generator=generator(), vertices=len(vertices), faces=len(faces))
    return header.encode() + vertices.tobytes() + faces.tobytes()
