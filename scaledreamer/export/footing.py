"""A base to stand on."""

from dataclasses import replace

import numpy as np

from scaledreamer.export.mesh import Mesh


def press_flat(mesh: Mesh, share: float) -> Mesh:
    """The mesh with what lies in the lowest `share` of its height pressed up to a plane; itself for a share of 0.

    A field that was learned from pictures rounds off the edge that a thing stands on, and then it touches the ground
    with its middle alone. Faces stay what they were; those that the plane leaves without area are for `cleanup`.
    """
    if not share:
        return mesh
    heights = mesh.vertices[:, 2]
    base = np.float32(heights.min() + share * np.ptp(heights))
    vertices = mesh.vertices.copy()
    vertices[:, 2] = heights.clip(min=base)
    return replace(mesh, vertices=vertices)
