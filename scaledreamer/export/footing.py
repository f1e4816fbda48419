"""A base to stand on."""

from dataclasses import replace

import numpy as np

from scaledreamer.export.mesh import Mesh


def press_flat(mesh: Mesh, share: float) -> Mesh:
    """The mesh with what lies in the lowest `share` of its height pressed up to a plane; itself where that is nothing.

    A field that was learned from pictures rounds off the edge that a thing stands on, and then it touches the ground
    with its middle alone. Faces stay what they were; those that the plane leaves without area are for `cleanup`.
    """
    heights = mesh.vertices[:, 2]
    low, high = float(heights.min()), float(heights.max())
    base = np.float32(low + share * (high - low))
    if not share or not (heights < base).any():
        return mesh
    vertices = mesh.vertices.copy()
    vertices[:, 2] = heights.clip(min=base)
    return replace(mesh, vertices=vertices)
