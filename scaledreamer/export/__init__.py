"""From a field to a mesh to a file."""

from scaledreamer.export.isosurface import extract_mesh
from scaledreamer.export.mesh import Mesh

__all__ = ["Mesh", "extract_mesh"]
