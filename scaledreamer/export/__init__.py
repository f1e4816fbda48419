"""From a field to a mesh to a file."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaledreamer.export.isosurface import extract_mesh
    from scaledreamer.export.mesh import Mesh

__all__ = ["Mesh", "extract_mesh"]

_HOME = {"Mesh": "scaledreamer.export.mesh", "extract_mesh": "scaledreamer.export.isosurface"}


def __getattr__(name: str) -> Any:
    """Load the public names at their first use: the server's web process reads presets and does without torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'scaledreamer.export' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
