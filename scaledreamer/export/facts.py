"""What can be counted and measured on a mesh: the line that a report prints before and after each step."""

from dataclasses import dataclass

import numpy as np

from scaledreamer.export.cleanup import first_there, is_flat, without_copies
from scaledreamer.export.edges import edges_of, parts
from scaledreamer.export.geometry import area_vectors
from scaledreamer.export.mesh import Mesh


@dataclass(frozen=True)
class MeshFacts:
    """Everything but `vertices` and `faces` is told of the mesh with its vertices merged by position."""

    vertices: int
    faces: int
    parts: int  # connected through vertices
    boundary_edges: int  # of one face
    nonmanifold_edges: int  # of more than two faces
    degenerate_faces: int  # with two corners in one place, no area, or a copy
    watertight: bool  # there are faces, and two at every edge
    winding_consistent: bool  # every edge is run through as often one way as the other, borders aside
    volume: float  # object units cubed, negative inside out; of an open mesh it depends on the origin
    area: float  # object units squared
    euler: int  # vertices - edges + faces: twice the parts, less twice the handles


def measure(mesh: Mesh) -> MeshFacts:
    """The facts of a mesh."""
    faces = first_there(mesh.vertices)[mesh.faces]
    edges = edges_of(faces)
    rising = np.bincount(np.repeat(np.arange(len(edges.uses)), edges.uses), weights=edges.rising[edges.order])
    part = parts(faces)
    vectors = area_vectors(mesh.vertices, faces)
    corners = mesh.vertices[faces[:, 0]].astype(np.float64)
    boundary, nonmanifold = int((edges.uses == 1).sum()), int((edges.uses > 2).sum())
    proper = without_copies(faces)
    return MeshFacts(
        vertices=len(mesh.vertices),
        faces=len(faces),
        parts=int(part.max(initial=-1)) + 1,
        boundary_edges=boundary,
        nonmanifold_edges=nonmanifold,
        degenerate_faces=len(faces) - int((~is_flat(mesh.vertices, proper)).sum()),
        watertight=len(faces) > 0 and boundary == nonmanifold == 0,
        winding_consistent=bool((2 * rising == edges.uses)[edges.uses > 1].all()),
        volume=float((corners * vectors).sum() / 3),
        area=float(np.linalg.norm(vectors, axis=1).sum()),
        euler=int((np.bincount(faces.ravel()) > 0).sum()) - len(edges.uses) + len(faces),
    )
