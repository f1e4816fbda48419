"""Meshes stand where they should, at the size that was asked for."""

from dataclasses import replace
from inspect import unwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scaledreamer.errors import ExportError
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.export.placement import CLASS_SIZES, Axis, Pivot, estimate_size, place
from scaledreamer.training.props.grammar import KINDS
from tests.export.fields import Analytic, box, cone

AXES: list[Axis] = ["x", "y", "z", "longest"]
PIVOTS: list[Pivot] = ["base", "center", "origin"]
COORDINATES = arrays(np.float32, (6, 3), elements=st.floats(-2, 2, width=32))


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    """1.2 long along +X with its tip in front, 0.8 wide, its middle 0.2 above the origin."""
    return extract_mesh(Analytic((cone(),)), resolution=24)


def cloud(vertices: np.ndarray) -> Mesh:
    return Mesh(vertices, np.array([[0, 1, 2], [3, 4, 5]]), np.zeros((6, 3), dtype=np.float32))


def sides(mesh: Mesh) -> np.ndarray:
    return np.ptp(mesh.vertices.astype(np.float64), axis=0)


@settings(deadline=None)
@given(
    vertices=COORDINATES, size=st.floats(1e-3, 1e3), axis=st.sampled_from(AXES), pivot=st.sampled_from(PIVOTS[:2])
)  # fmt: skip
def test_size_and_pivot_are_exact_for_any_mesh(vertices: np.ndarray, size: float, axis: Axis, pivot: Pivot) -> None:
    extent = np.ptp(vertices.astype(np.float64), axis=0)
    length = extent.max() if axis == "longest" else extent["xyz".index(axis)]
    if length < 1e-30:
        return
    placed = place(cloud(vertices), size, axis, pivot).apply(cloud(vertices))
    made, largest = sides(placed), sides(placed).max()
    assert (made.max() if axis == "longest" else made["xyz".index(axis)]) == pytest.approx(size, rel=1e-6)
    middle = (placed.vertices.min(axis=0).astype(np.float64) + placed.vertices.max(axis=0)) / 2
    centered = slice(2) if pivot == "base" else slice(3)
    np.testing.assert_allclose(middle[centered], 0, atol=1e-6 * largest)
    if pivot == "base":
        assert placed.vertices[:, 2].min() == 0 and not np.signbit(placed.vertices[:, 2].min())


@settings(deadline=None)
@given(vertices=COORDINATES, size=st.floats(1e-3, 1e3))
def test_the_origin_of_the_field_stays_where_it_is(vertices: np.ndarray, size: float) -> None:
    if np.ptp(vertices, axis=0).max() < 1e-30:
        return
    placement = place(cloud(vertices), size, "longest", "origin")
    assert placement.offset == (0, 0, 0)
    np.testing.assert_array_equal(
        placement.apply(cloud(vertices)).vertices, (vertices.astype(np.float64) * placement.scale).astype(np.float32)
    )


@pytest.mark.parametrize(
    ("axis", "extent"), [("x", [3, 1.5, 1]), ("y", [6, 3, 2]), ("z", [9, 4.5, 3]), ("longest", [3, 1.5, 1])]
)
def test_a_size_is_measured_along_the_axis_of_object_space(axis: Axis, extent: list[float]) -> None:
    brick = extract_mesh(Analytic((box((-0.7, -0.4, -0.2), (0.5, 0.2, 0.2)),)), resolution=24)
    np.testing.assert_allclose(sides(place(brick, 3.0, axis, "base").apply(brick)), extent, rtol=0.01)


def test_axes_colours_normals_and_faces_stay(mesh: Mesh) -> None:
    placed = place(mesh, 2.4, "x", "base").apply(mesh)
    for name in ("faces", "colors", "normals"):
        np.testing.assert_array_equal(getattr(placed, name), getattr(mesh, name))
    tip = placed.vertices[placed.vertices[:, 0].argmax()]
    np.testing.assert_allclose(tip, [1.2, 0, 0.8], atol=0.1)


def test_without_a_size_a_unit_is_a_metre(mesh: Mesh) -> None:
    placement = place(mesh, None, "z", "base")
    assert placement.scale == 1
    assert placement.offset[2] == pytest.approx(-float(mesh.vertices[:, 2].min()))


def test_a_level_of_detail_moves_with_its_level_0(mesh: Mesh) -> None:
    placement = place(mesh, 0.37, "longest", "base")
    other = replace(mesh, vertices=mesh.vertices[::-1] * np.float32(0.9))
    expected = other.vertices.astype(np.float64) * placement.scale + placement.offset
    np.testing.assert_array_equal(placement.apply(other).vertices, expected.astype(np.float32))
    shared = replace(mesh, vertices=mesh.vertices[::-1])
    np.testing.assert_array_equal(placement.apply(shared).vertices, placement.apply(mesh).vertices[::-1])


@pytest.mark.parametrize(("axis", "column"), [("x", 0), ("y", 1), ("z", 2)])
def test_an_axis_without_extent_is_named(mesh: Mesh, axis: Axis, column: int) -> None:
    vertices = mesh.vertices.copy()
    vertices[:, column] = 0.3
    flat = replace(mesh, vertices=vertices)
    with pytest.raises(ExportError, match=f"2 m long along '{axis}': it has no extent there"):
        place(flat, 2.0, axis, "base")
    placed = place(flat, 2.0, "longest", "base").apply(flat)
    assert sides(placed).max() == pytest.approx(2) and (placed.vertices[:, 2] >= 0).all()


def test_a_single_point_has_no_longest_side_but_a_place() -> None:
    point = cloud(np.full((6, 3), 0.3, dtype=np.float32))
    with pytest.raises(ExportError, match="along 'longest'"):
        place(point, 1.0, "longest", "base")
    assert (place(point, None, "longest", "center").apply(point).vertices == 0).all()


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_size_is_refused(mesh: Mesh, size: float) -> None:
    with pytest.raises(ExportError, match="choose a positive size in metres"):
        place(mesh, size, "z", "base")


def test_a_mesh_beyond_float32_or_without_vertices_is_refused(mesh: Mesh) -> None:
    with pytest.raises(ExportError, match="not finite"):
        place(mesh, 1e39, "z", "base").apply(mesh)
    nothing = replace(
        mesh, vertices=mesh.vertices[:0], faces=mesh.faces[:0], colors=mesh.colors[:0], normals=mesh.normals[:0]
    )
    with pytest.raises(ExportError, match="without vertices"):
        unwrap(place)(nothing, 1.0, "z", "base")


@pytest.mark.parametrize(
    ("prompt", "size"),
    [
        ("a red wooden barrel", 0.9),
        ("Three MUGS", 0.1),
        ("old boxes", 0.5),
        ("a street lamp", 4.5),
        ("a street-lamp", 4.5),
        ("a lamp on the street", 0.5),
        ("a wooden chest with a golden key", 0.6),  # the key is only in it
        ("a house made of bread, painted red", 6.0),
        ("treasure  chest", 0.6),
    ],
)
def test_a_known_word_gives_a_size(prompt: str, size: float) -> None:
    assert estimate_size(prompt) == (size, "estimated")


@pytest.mark.parametrize("prompt", ["", "a strange thing", "barrelling along", "a chairman", "carpet", "木の椅子"])
def test_an_unknown_thing_is_a_metre_and_says_so(prompt: str) -> None:
    assert estimate_size(prompt) == (1.0, "unit")


@settings(deadline=None)
@given(prompt=st.text())
def test_any_prompt_has_a_plausible_size(prompt: str) -> None:
    assert 0.01 <= estimate_size(prompt)[0] <= 50


def test_every_prompt_of_the_default_model_has_an_estimated_size() -> None:
    assert len(CLASS_SIZES) >= 60 and all(word == word.lower() for word in CLASS_SIZES)
    nouns = {noun for kind in KINDS.values() for noun in (*kind.train, *kind.held_out, *kind.wide)}
    assert [noun for noun in nouns if estimate_size(f"a small red {noun} with a blue trim")[1] != "estimated"] == []
    sizes = {kind: {estimate_size(noun)[0] for noun in words.train} for kind, words in KINDS.items()}
    assert all(max(s) <= 1.3 * min(s) for s in sizes.values()), "one thing, one size, whatever it is called"
