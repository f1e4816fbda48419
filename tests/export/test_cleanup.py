"""Small parts are dropped whole, large parts stay as they are."""

import math

import numpy as np
import pytest

from scaledreamer.export import extract_mesh
from scaledreamer.export.cleanup import keep_large_parts
from scaledreamer.export.geometry import area_vectors
from scaledreamer.export.mesh import Mesh
from tests.export.fields import Analytic, ball, box, torus, union
from tests.export.shapes import joined, mesh_of, sphere


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices[mesh.faces.T].astype(np.float64)
    return float((a * np.cross(b, c)).sum() / 6)


def test_a_crumb_beside_a_ball_is_dropped_and_the_ball_is_untouched() -> None:
    alone = extract_mesh(Analytic((ball(-0.3),)), resolution=32)
    mesh = keep_large_parts(extract_mesh(Analytic((union(ball(-0.3), ball(0.7, 0.7, 0.7, 0.07)),)), resolution=32))
    for name in ("vertices", "faces", "colors", "normals"):
        np.testing.assert_array_equal(getattr(mesh, name), getattr(alone, name))
    assert volume(mesh) == pytest.approx(4 / 3 * math.pi * 0.125, rel=0.02)


def test_two_large_parts_both_stay() -> None:
    mesh = extract_mesh(Analytic((union(ball(-0.6, radius=0.3), ball(0.6, radius=0.2)),)), resolution=24)
    assert keep_large_parts(mesh) is mesh


def test_a_thin_part_with_much_area_stays() -> None:
    mesh = extract_mesh(Analytic((union(torus(0.8, 0.06), box((-0.5,) * 3, (0.5,) * 3)),)), resolution=48)
    ring = volume(extract_mesh(Analytic((torus(0.8, 0.06),)), resolution=48)) / volume(mesh)
    assert keep_large_parts(mesh, fraction=1.1 * ring) is mesh
    assert len(keep_large_parts(mesh, fraction=0.4).faces) < len(mesh.faces)


def test_faces_that_share_places_but_no_vertices_are_one_part() -> None:
    whole = sphere(2)
    soup = mesh_of(whole.vertices[whole.faces], np.arange(whole.faces.size))
    assert keep_large_parts(soup) is soup
    crumb = mesh_of(whole.vertices[whole.faces] * 0.05 + 2, np.arange(whole.faces.size))
    assert len(keep_large_parts(joined(soup, crumb)).faces) == len(whole.faces)


def test_something_always_stays() -> None:
    mesh = extract_mesh(Analytic((union(ball(-0.6, radius=0.3), ball(0.6, radius=0.3)),)), resolution=24)
    assert np.linalg.norm(area_vectors(mesh.vertices, keep_large_parts(mesh, fraction=1.0).faces), axis=1).sum() > 1
