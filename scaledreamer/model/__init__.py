"""Text to fields to pictures."""

from scaledreamer.model.library import load_generator, save_generator

__all__ = ["load_generator", "save_generator"]
