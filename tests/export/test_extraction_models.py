"""Extraction on the fields that ship and on official sizes: the same faces as the dense pass."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from scaledreamer import TextTo3D
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.triplane import TriplaneField


def same_faces(mesh: Mesh, dense: Mesh, cell: float) -> None:
    """The same faces between the same vertices, up to 0.01 cell and 1/255 of colour."""
    assert len(mesh.vertices) == len(dense.vertices) and len(mesh.faces) == len(dense.faces)
    apart, twin = cKDTree(mesh.vertices).query(dense.vertices)
    assert len(np.unique(twin)) == len(twin) and apart.max() < 0.01 * cell
    assert np.abs(mesh.colors[twin] - dense.colors).max() < 1 / 255
    np.testing.assert_array_equal(ordered(mesh.faces), ordered(twin[dense.faces]))


def ordered(faces: np.ndarray) -> np.ndarray:
    """Faces, each from its smallest corner on, sorted."""
    first = faces.argmin(axis=1)
    turned = np.stack([faces[np.arange(len(faces)), (first + i) % 3] for i in range(3)], axis=1)
    return turned[np.lexsort(turned.T[::-1])]


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
