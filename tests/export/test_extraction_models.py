"""Extraction on the fields that ship and on official sizes: the same faces as the dense pass."""

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from scaledreamer import TextTo3D
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.triplane import TriplaneField


def same_faces(mesh: Mesh, dense: Mesh, cell: float) -> None:
    """The same faces between the same places, up to 0.01 cell and 1/255 of colour.

    Vertices closer than that are one place: the surface goes through a corner of the grid there, and rounding may
    call that corner inside in one pass and outside in the other. Only faces of the cells around it may differ.
    """
    assert len(mesh.vertices) == len(dense.vertices) and len(mesh.faces) == len(dense.faces)
    both = np.concatenate([mesh.vertices, dense.vertices])
    near = cKDTree(both).query_pairs(0.01 * cell, output_type="ndarray")
    graph = coo_array((np.ones(len(near)), (near[:, 0], near[:, 1])), shape=(len(both), len(both)))
    place, reference = np.split(connected_components(graph, directed=False)[1], 2)
    np.testing.assert_array_equal(np.sort(place), np.sort(reference))
    differ = faces_between(place[mesh.faces]) ^ faces_between(reference[dense.faces])
    assert len(differ) < 0.001 * len(dense.faces)
    if differ:
        corners = cKDTree(mesh.vertices[np.bincount(place)[place] > 1])
        spots = dict(zip(place.tolist(), mesh.vertices, strict=True))
        assert corners.query([spots[i] for face in differ for i in face])[0].max() < 3**0.5 * cell
    twin = cKDTree(mesh.vertices).query(dense.vertices)[1]
    assert np.abs(mesh.colors[twin] - dense.colors).max() < 1 / 255


def faces_between(places: np.ndarray) -> set[tuple[int, ...]]:
    """Faces with three different corners, each from its smallest corner on."""
    places = places[(places != np.roll(places, 1, axis=1)).all(axis=1)]
    first = places.argmin(axis=1)
    turned = np.stack([places[np.arange(len(places)), (first + i) % 3] for i in range(3)], axis=1)
    return {tuple(face) for face in turned.tolist()}


@pytest.fixture(scope="module")
def pipe() -> TextTo3D:
    return TextTo3D.load()


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("prompt", ["a red chair", "a yellow mug"])
def test_the_default_model_has_the_faces_of_the_dense_pass(pipe: TextTo3D, prompt: str, mode: str) -> None:
    field = pipe.fields([prompt])
    same_faces(extract_mesh(field, 80, mode), extract_mesh(field, 80, "dense"), 2 / 79)


def rough(scale: float) -> Field:
    """Official sizes, random planes."""
    rng = torch.Generator().manual_seed(3)
    heads = [[torch.randn(o, i, generator=rng) / i**0.5 for o, i in ((64, 96), (64, 64), (n, 64))] for n in (1, 3)]
    smooth = torch.nn.functional.interpolate(torch.randn(3, 32, 16, 16, generator=rng), size=64, mode="bicubic")
    return TriplaneField.from_weights(scale * 0.5 * smooth[None], heads[0], heads[1])


@pytest.mark.parametrize("scale", [1.0, 4.0, 12.0])
def test_exact_misses_nothing_on_rough_fields(scale: float) -> None:
    field = rough(scale)
    same_faces(extract_mesh(field, 72, "exact"), extract_mesh(field, 72, "dense"), 4 / 71)
