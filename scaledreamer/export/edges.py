"""Which faces meet at which edge, and what hangs together."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Edges:
    """The half-edges of some faces, gathered by the edge they run along.

    Half-edge 3 f + k leads from corner k of face f to that face's next corner.
    """

    keys: Int64[np.ndarray, " E"]  # of each edge, ascending: lower vertex * stride + higher vertex
    stride: int
    uses: Int64[np.ndarray, " E"]  # faces at each edge
    starts: Int64[np.ndarray, " E"]  # of each edge's half-edges in `order`
    order: Int64[np.ndarray, " H"]
    rising: Bool[np.ndarray, " H"]  # half-edge by half-edge: leads from the lower vertex to the higher one

    def at(self, uses: int) -> Int64[np.ndarray, "N uses"]:
        """The half-edges of every edge that has so many faces."""
        found: Int64[np.ndarray, "N uses"] = self.order[self.starts[self.uses == uses][:, None] + np.arange(uses)]
        return found

    def pairs(self) -> Int64[np.ndarray, "N 2"]:
        """The two half-edges of every edge between two faces."""
        return self.at(2)

    def holds(self, a: Int64[np.ndarray, "*#N"], b: Int64[np.ndarray, "*#N"]) -> Bool[np.ndarray, "*N"]:
        """Whether an edge joins vertices a and b."""
        keys = np.minimum(a, b) * self.stride + np.maximum(a, b)
        found: Bool[np.ndarray, "*N"] = self.keys[np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)] == keys
        return found


def edges_of(faces: Int64[np.ndarray, "F 3"]) -> Edges:
    """The edges of the faces; those of one edge keep the order of the faces."""
    tail, head = faces.ravel(), faces[:, [1, 2, 0]].ravel()
    stride = int(faces.max(initial=0)) + 1
    keys = np.minimum(tail, head) * stride + np.maximum(tail, head)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    return Edges(keys[starts], stride, np.diff(starts, append=len(keys)), starts, order, tail < head)


def ends(faces: Int64[np.ndarray, "F 3"], half_edges: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "3 ..."]:
    """Of each half-edge the vertex it leaves, the one it reaches, and the third of its face."""
    face, corner = np.divmod(half_edges, 3)
    return np.stack([faces[face, (corner + step) % 3] for step in range(3)])


def groups(count: int, links: Int64[np.ndarray, "N 2"]) -> Int64[np.ndarray, " C"]:
    """The number of the group that each of `count` things belongs to; a link puts two things into one group."""
    graph = coo_matrix((np.ones(len(links), dtype=bool), links.T), (count, count))
    labels: Int64[np.ndarray, " C"] = connected_components(graph, directed=False)[1].astype(np.int64)
    return labels


def parts(faces: Int64[np.ndarray, "F 3"]) -> Int64[np.ndarray, " F"]:
    """The number, from zero on, of the connected part of each face; faces with a common vertex are in one part."""
    links = np.concatenate([faces[:, :2], faces[:, 1:]])
    labels = groups(int(faces.max(initial=-1)) + 1, links)[faces[:, 0]]
    numbered: Int64[np.ndarray, " F"] = (np.cumsum(np.bincount(labels) > 0) - 1)[labels]
    return numbered
