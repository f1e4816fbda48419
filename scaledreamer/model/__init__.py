"""Text to fields to pictures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaledreamer.model.library import load_generator, save_generator

__all__ = ["load_generator", "save_generator"]


def __getattr__(name: str) -> Any:
    """Load the public names at their first use: the server's web process reads file headers and does without torch."""
    if name not in __all__:
        raise AttributeError(f"module 'scaledreamer.model' has no attribute {name!r}")
    return getattr(import_module("scaledreamer.model.library"), name)
