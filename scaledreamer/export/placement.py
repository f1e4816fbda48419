"""Where a mesh stands and how large it is: metres, pivot, and plausible sizes of common props."""

import math
import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from scaledreamer.errors import ExportError
from scaledreamer.export.mesh import Mesh

Axis = Literal["x", "y", "z", "longest"]
Pivot = Literal["base", "center", "origin"]

# Metres along the longest side of an ordinary one.
CLASS_SIZES: dict[str, float] = {
    # containers
    "barrel": 0.9, "cask": 0.9, "keg": 0.6, "chest": 0.6, "treasure chest": 0.6, "crate": 0.8, "box": 0.5,
    "basket": 0.4, "bucket": 0.35, "bag": 0.4, "backpack": 0.5, "suitcase": 0.7, "vase": 0.35, "pot": 0.3,
    "flower pot": 0.3, "trash can": 0.9, "pail": 0.35, "urn": 0.4,
    # tableware and food
    "mug": 0.1, "cup": 0.1, "plate": 0.26, "bowl": 0.18, "bottle": 0.25, "potion": 0.2, "potion bottle": 0.2,
    "potion flask": 0.2, "flask": 0.2, "teapot": 0.25, "kettle": 0.28, "spoon": 0.18, "apple": 0.08, "banana": 0.2,
    "pumpkin": 0.35, "bread": 0.3, "cake": 0.25, "cheese": 0.25, "burger": 0.12, "carrot": 0.2, "donut": 0.1,
    "doughnut": 0.1, "ice cream": 0.15, "ice cream cone": 0.15, "gelato cone": 0.15,
    # furniture and household
    "chair": 0.9, "armchair": 1.0, "stool": 0.5, "bench": 1.5, "table": 1.6, "desk": 1.4, "sofa": 2.0, "bed": 2.0,
    "cot": 1.9, "shelf": 1.8, "bookshelf": 1.9, "bookcase": 1.9, "book rack": 1.8, "cabinet": 1.6, "wardrobe": 2.0,
    "lamp": 0.5, "street lamp": 4.5, "lantern": 0.35, "candle": 0.2, "torch": 0.6, "book": 0.25, "clock": 0.3,
    "mirror": 1.2, "ladder": 3.0, "door": 2.0,
    # weapons and tools
    "sword": 1.0, "longsword": 1.2, "broadsword": 1.0, "dagger": 0.35, "knife": 0.3, "axe": 0.8, "hammer": 0.35,
    "mallet": 0.35, "sledgehammer": 0.4, "hatchet": 0.7, "spear": 2.0, "bow": 1.5, "arrow": 0.75, "shield": 0.8,
    "staff": 1.6, "pistol": 0.2, "rifle": 1.0, "cannon": 2.5, "shovel": 1.1, "key": 0.08, "coin": 0.025,
    "helmet": 0.3, "crown": 0.2, "anvil": 0.6,
    # vehicles
    "car": 4.3, "automobile": 4.3, "truck": 7.0, "bus": 12.0, "bicycle": 1.8, "motorcycle": 2.1, "cart": 2.5,
    "boat": 5.0, "sailboat": 5.0, "ship": 30.0, "airplane": 12.0, "helicopter": 11.0, "tank": 7.0, "rocket": 3.0,
    "rocket ship": 3.0, "space rocket": 3.0, "spaceship": 15.0,
    # buildings and signs
    "house": 6.0, "cottage": 6.0, "cabin": 6.0, "farmhouse": 7.0, "hut": 4.0, "tower": 20.0, "watchtower": 16.0,
    "well": 2.0, "castle": 40.0, "windmill": 15.0, "tent": 3.0, "water well": 2.0, "fence": 2.0, "bridge": 10.0,
    "sign": 1.5, "signpost": 1.5, "traffic cone": 0.7, "road cone": 0.7, "safety cone": 0.7, "street sign": 2.5,
    "traffic light": 3.0, "fire hydrant": 0.8, "tombstone": 1.0,
    # plants and nature
    "tree": 5.0, "pine tree": 5.0, "fir tree": 5.0, "spruce tree": 5.0, "bush": 1.2, "cactus": 1.5, "flower": 0.4,
    "mushroom": 0.15, "toadstool": 0.15, "fungus": 0.15, "rock": 1.0, "log": 1.5, "crystal": 0.3,
}  # fmt: skip

# Longer entries first, so that a street lamp is no lamp; a plural is as large as one of its kind.
WORD = re.compile(rf"\b({'|'.join(sorted(CLASS_SIZES, key=len, reverse=True))})(?:e?s)?\b".replace(" ", r"[\s-]+"))

BESIDE = re.compile(r"\b(?:with|of|on|in|from|made|for|under|over|beside|holding)\b")


@dataclass(frozen=True)
class Placement:
    """x in metres = scale * x in object units + offset; the axes stay (+Z up, front +X)."""

    scale: float
    offset: tuple[float, float, float]  # metres

    def apply(self, mesh: Mesh) -> Mesh:
        """The mesh moved; level 0, its LODs and its collision parts stay together under one placement."""
        placed = mesh.vertices.astype(np.float64) * self.scale + self.offset
        with np.errstate(over="ignore"):  # Mesh refuses what float32 cannot hold
            return replace(mesh, vertices=placed.astype(np.float32))


def place(mesh: Mesh, size: float | None, axis: Axis, pivot: Pivot) -> Placement:
    """The placement that makes the mesh `size` metres long along an axis of object space; None: a unit is a metre.

    Pivot `base`: the lowest point at exactly z = 0, the middle of the other two sides at 0; `center`: the middle of the
    bounding box at 0; `origin`: the field's own origin stays.
    """
    if len(mesh.vertices) == 0:
        raise ExportError("cannot place a mesh without vertices")
    low, high = (edge.astype(np.float64) for edge in (mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)))
    scale = 1.0 if size is None else scale_to(size, axis, high - low)
    anchor = (low + high) / 2
    match pivot:
        case "base":
            anchor[2] = low[2]  # the same product again in apply, so the lowest point comes out as exactly 0
        case "center":
            pass
        case "origin":
            anchor[:] = 0
    x, y, z = (0.0 - anchor * scale).tolist()
    return Placement(scale, (x, y, z))


def scale_to(size: float, axis: Axis, extent: np.ndarray) -> float:
    """Metres an object unit."""
    if not (math.isfinite(size) and size > 0):
        raise ExportError(f"cannot make a mesh {size:g} m long; choose a positive size in metres")
    length = float(extent.max() if axis == "longest" else extent["xyz".index(axis)])
    if length == 0:
        raise ExportError(f"cannot make the mesh {size:g} m long along {axis!r}: it has no extent there")
    return size / length


def estimate_size(prompt: str) -> tuple[float, Literal["estimated", "unit"]]:
    """Metres along the longest side: of the last word that CLASS_SIZES knows, otherwise 1 and "unit".

    What follows "with", "of", "on", "in" and the like tells of something else and counts only when nothing before is
    known.
    """
    thing, *rest = BESIDE.split(prompt.lower(), maxsplit=1)
    found = WORD.findall(thing) or WORD.findall(" ".join(rest))
    if not found:
        return 1.0, "unit"
    return CLASS_SIZES[" ".join(re.split(r"[\s-]+", found[-1]))], "estimated"
