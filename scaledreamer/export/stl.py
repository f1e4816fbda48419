"""STL, binary: triangles without colour; object space as it is (+Z up)."""

import struct

import numpy as np

from scaledreamer.export.geometry import Surface, area_vectors, unit
from scaledreamer.export.version import generator

TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])


def encode_stl(mesh: Surface) -> bytes:
    """The contents of a .stl file."""
    triangles = np.zeros(len(mesh.faces), TRIANGLE)
    triangles["normal"] = unit(area_vectors(mesh.vertices, mesh.faces))
    triangles["corners"] = mesh.vertices[mesh.faces]
    header = generator().encode()[:80].ljust(80)  # must not begin with "solid", the mark of a text STL
    return header + struct.pack("<I", len(triangles)) + triangles.tobytes()
