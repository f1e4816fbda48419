"""How a surface shines, guessed from the material words of a prompt; glTF's metallic-roughness model."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Material:
    """Factors in [0, 1]; `source` is the word they were taken from, or "default"."""

    metallic: float = 0.0
    roughness: float = 0.8
    source: str = "default"


DEFAULT = Material()

# Word: metallic, roughness. A declared table, not a measurement: the report says which word was used.
WORDS = {
    "metal": (1.0, 0.4), "metallic": (1.0, 0.4), "iron": (1.0, 0.6), "steel": (1.0, 0.35), "rusty": (0.7, 0.9),
    "gold": (1.0, 0.3), "golden": (1.0, 0.3), "silver": (1.0, 0.3), "copper": (1.0, 0.4), "brass": (1.0, 0.4),
    "bronze": (1.0, 0.45), "chrome": (1.0, 0.1), "tin": (1.0, 0.5),
    "wood": (0.0, 0.85), "wooden": (0.0, 0.85), "oak": (0.0, 0.8), "bamboo": (0.0, 0.75), "paper": (0.0, 0.95),
    "stone": (0.0, 0.95), "rock": (0.0, 0.95), "brick": (0.0, 0.95), "concrete": (0.0, 0.9), "marble": (0.0, 0.3),
    "clay": (0.0, 0.9), "terracotta": (0.0, 0.9), "ceramic": (0.0, 0.3), "porcelain": (0.0, 0.2), "bone": (0.0, 0.6),
    "glass": (0.0, 0.1), "crystal": (0.0, 0.1), "ice": (0.0, 0.15), "glossy": (0.0, 0.2), "shiny": (0.0, 0.2),
    "polished": (0.0, 0.2), "plastic": (0.0, 0.5), "rubber": (0.0, 0.9), "leather": (0.0, 0.6), "cloth": (0.0, 0.95),
    "woollen": (0.0, 1.0), "velvet": (0.0, 1.0), "matte": (0.0, 1.0), "wax": (0.0, 0.5),
}  # fmt: skip


def material_of(prompt: str) -> Material:
    """The material that the first known word of a prompt tells."""
    for word in re.findall(r"[a-z]+", prompt.lower()):
        if word in WORDS:
            return Material(*WORDS[word], word)
    return DEFAULT
