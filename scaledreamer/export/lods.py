"""Levels of detail, by error."""

import numpy as np

from scaledreamer.errors import ExportError
from scaledreamer.export.mesh import Mesh
from scaledreamer.export.simplify import fewest_faces

TOLERANCES = 0.004, 0.012, 0.03, 0.06, 0.1  # of levels 1, 2, …: deviation from level 0 over the diagonal of its box
FALL = 0.7  # of the faces of a level that the next may have at most
FEWEST = 12  # faces: a box


def lod_chain(mesh: Mesh, count: int) -> list[Mesh]:
    """Up to `count` meshes, the mesh itself first, each with the fewest faces that its tolerance allows.

    A level has at least 12 faces and at most 70 % of those of the level before, even if it exceeds its own tolerance
    then, but never the last one. The chain is shorter where that cannot be. Every level is closed if the mesh is. The
    same mesh makes the same bytes.
    """
    if not 1 <= count <= 1 + len(TOLERANCES):
        raise ExportError(f"cannot make {count} levels of detail; choose 1 to {1 + len(TOLERANCES)}")
    levels = [mesh]
    for tolerance in TOLERANCES[: count - 1]:
        at_most = int(FALL * len(levels[-1].faces))
        if at_most < FEWEST:
            break
        diagonal = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
        try:
            level, error = fewest_faces(mesh, tolerance * diagonal, FEWEST, at_most)
        except ExportError:
            break
        if error > TOLERANCES[-1] * diagonal or len(level.faces) < FEWEST:
            break
        levels.append(level)
    return levels
