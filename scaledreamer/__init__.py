"""ScaleDreamer: text to 3D in seconds, without 3D training data."""

from importlib.metadata import PackageNotFoundError, version

from scaledreamer.export.mesh import Mesh
from scaledreamer.model.library import load_generator
from scaledreamer.pipeline import TextTo3D

try:
    __version__ = version("scaledreamer")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+source"

__all__ = ["Mesh", "TextTo3D", "__version__", "load_generator"]
