"""ScaleDreamer: text to 3D in seconds, without 3D training data."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaledreamer.export.mesh import Mesh
    from scaledreamer.model.library import load_generator
    from scaledreamer.pipeline import TextTo3D

try:
    __version__ = version("scaledreamer")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"

__all__ = ["Mesh", "TextTo3D", "__version__", "load_generator"]


_HOME = {
    "Mesh": "scaledreamer.export.mesh",
    "TextTo3D": "scaledreamer.pipeline",
    "load_generator": "scaledreamer.model.library",
}


def __getattr__(name: str) -> Any:
    """Load the public names at their first use: the web process and `--help` do without torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'scaledreamer' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
