"""Levels of detail: coarser by error, closed, always the same."""

from itertools import pairwise

import numpy as np
import pytest

from scaledreamer.errors import ExportError
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.export.deviation import deviation
from scaledreamer.export.facts import measure
from scaledreamer.export.lods import FALL, FEWEST, TOLERANCES, lod_chain
from tests.export.fields import FIELDS


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return extract_mesh(FIELDS["a bumpy ball"], 48)


def test_every_level_is_coarser_closed_and_near_enough(mesh: Mesh) -> None:
    levels = lod_chain(mesh, 4)
    counts = [len(level.faces) for level in levels]
    assert len(levels) == 4 and levels[0] is mesh and counts[-1] >= FEWEST
    assert all(after <= FALL * before for before, after in pairwise(counts))
    diagonal = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    for level in levels:
        facts = measure(level)
        assert facts.watertight and facts.winding_consistent and facts.volume > 0
        assert deviation(mesh, level) <= TOLERANCES[-1] * diagonal


def test_the_same_mesh_makes_the_same_levels(mesh: Mesh) -> None:
    for one, other in zip(lod_chain(mesh, 3), lod_chain(mesh, 3), strict=True):
        np.testing.assert_array_equal(one.vertices, other.vertices)
        np.testing.assert_array_equal(one.faces, other.faces)


@pytest.mark.parametrize("count", [0, 7])
def test_a_number_of_levels_out_of_range_is_refused(mesh: Mesh, count: int) -> None:
    with pytest.raises(ExportError, match=f"cannot make {count} levels"):
        lod_chain(mesh, count)
