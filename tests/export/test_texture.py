"""A texture shows what the field shows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from scaledreamer import TextTo3D
from scaledreamer.errors import ExportError
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.export.color import linear_to_srgb, srgb_to_linear
from scaledreamer.export.raster import SIZES, beside, centers, covered, to_texels
from scaledreamer.export.texture import bake, sample_texture
from scaledreamer.export.unwrap import unwrap
from scaledreamer.model.fields.base import Field, FieldSample
from tests.export.atlases import flat, soup, times_covered
from tests.export.fields import Analytic, bumpy

Paint = Callable[[Float[Tensor, "B N 3"]], Float[Tensor, "B N 3"]]
D65 = np.array([0.95047, 1, 1.08883])
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


@dataclass(frozen=True)
class Painted(Analytic):
    """A shape in colours of one's own."""

    paint: Paint = torch.zeros_like

    def query(self, points: Float[Tensor, "B N 3"]) -> FieldSample:
        return FieldSample(self.sdf(points), self.paint(points))

    def __getitem__(self, index: int | slice) -> Self:
        return replace(self, shapes=super().__getitem__(index).shapes)


def spots(points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
    """Spots of full colours; from one to the other in an eighth of the object's radius."""
    return 0.5 + 0.5 * torch.tanh(4 * torch.sin(9 * points))


SMOOTH = Analytic((bumpy,))
SPOTTED = Painted((bumpy,), paint=spots)


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    """A bumpy ball of 5,000 faces or so."""
    return extract_mesh(SMOOTH, resolution=38)


@pytest.fixture(scope="module")
def by_xatlas(mesh: Mesh) -> Mesh:
    unwrapped = unwrap(mesh, 1024, 4, budget_s=60)
    assert unwrapped.degraded is None
    return unwrapped.mesh


@pytest.fixture(scope="module")
def by_grid(mesh: Mesh) -> Mesh:
    return on_grid(mesh, 1024)


def on_grid(mesh: Mesh, size: int) -> Mesh:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("scaledreamer.export.unwrap"), "WORKER", Path("no such file"))
        unwrapped = unwrap(mesh, size, 4, budget_s=60)
    assert unwrapped.degraded is not None
    return unwrapped.mesh


def lab(srgb: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """CIELAB under D65 (IEC 61966-2-1, CIE 15)."""
    xyz = srgb_to_linear(srgb) @ TO_XYZ.T / D65
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def color_error(field: Field, mesh: Mesh) -> Float[np.ndarray, " N"]:
    """CIE76 difference between texture and field at 1,000 points of the surface."""
    assert mesh.uvs is not None and mesh.texture is not None
    rng = np.random.default_rng(0)
    a, b, c = mesh.vertices.astype(np.float64)[mesh.faces.T]
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    face = rng.choice(len(areas), 1000, p=areas / areas.sum())
    weights = rng.dirichlet([1, 1, 1], 1000)[:, :, None]
    points, uvs = ((weights * values[mesh.faces[face]]).sum(axis=1) for values in (mesh.vertices, mesh.uvs))
    with torch.no_grad():
        truth = field[0].query(torch.from_numpy(points).float()[None]).rgb[0].clamp(0, 1).double().numpy()
    return np.linalg.norm(lab(sample_texture(mesh.texture, uvs)) - lab(truth), axis=1)


@pytest.mark.parametrize("atlas", ["by_xatlas", "by_grid"])
@pytest.mark.parametrize("field", [SMOOTH, SPOTTED], ids=["smooth", "spotted"])
def test_the_texture_has_the_field_s_colour_all_over(request: pytest.FixtureRequest, atlas: str, field: Field) -> None:
    baked = bake(field, request.getfixturevalue(atlas), 1024)
    assert baked.texture is not None and baked.texture.shape == (1024, 1024, 3)
    error = color_error(field, baked)
    assert error.mean() <= 1 and np.percentile(error, 99) <= 3


def test_the_default_model_s_colour_is_kept() -> None:
    field = TextTo3D.load().fields(["a red mushroom"])
    mesh = extract_mesh(field, resolution=40)
    unwrapped = unwrap(mesh, 1024, 4, budget_s=60)
    assert unwrapped.degraded is None
    for atlas in (unwrapped.mesh, on_grid(mesh, 1024)):
        error = color_error(field, bake(field, atlas, 1024))
        assert error.mean() <= 1 and np.percentile(error, 99) <= 3


def test_nothing_but_the_texture_is_new(by_xatlas: Mesh) -> None:
    baked = bake(SMOOTH, by_xatlas, 256)
    for name in ("vertices", "faces", "colors", "normals", "uvs"):
        assert getattr(baked, name) is getattr(by_xatlas, name)


def test_the_same_mesh_gives_the_same_texture(by_xatlas: Mesh) -> None:
    first, second = (bake(SMOOTH, by_xatlas, 512).texture for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_no_texel_is_left_without_a_colour(by_xatlas: Mesh) -> None:
    plain = Painted((bumpy,), paint=lambda points: torch.tensor([0.2, 0.4, 1.2]).expand_as(points))
    texture = bake(plain, by_xatlas, 256).texture
    np.testing.assert_array_equal(texture, np.broadcast_to(np.array([51, 102, 255], dtype=np.uint8), (256, 256, 3)))


def test_a_texel_beyond_the_border_has_the_colour_of_the_border() -> None:
    """One face, red on its corner at the left, whose edge towards there is upright."""
    mesh = flat(np.array([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75]]), np.array([[0, 1, 2]]))
    ramp = Painted((bumpy,), paint=lambda points: points.clamp(0, 1))
    texture = bake(ramp, mesh, 256).texture
    assert texture is not None
    np.testing.assert_array_equal(texture[128, :64], np.broadcast_to(texture[128, 63], (64, 3)))
    assert texture[128, 63].tolist() == [64, 127, 0]  # x = 0.25, v = 127.5 / 256
    np.testing.assert_array_equal(
        texture[192:, 100], np.broadcast_to(np.array([100, 64, 0]), (64, 3))
    )  # below v = 0.25


def test_covered_texels_are_those_a_plain_search_finds(by_xatlas: Mesh) -> None:
    assert by_xatlas.uvs is not None
    found = np.concatenate([t for _, t in covered(to_texels(by_xatlas.uvs, 256), by_xatlas.faces, 256)])
    plain = np.flatnonzero(times_covered(by_xatlas, 256))
    assert np.isin(plain, found).all() and len(found) - len(plain) <= 5  # centres on an edge
    assert len(np.unique(found)) == len(found)


def test_texels_beside_a_segment_are_those_a_plain_search_finds() -> None:
    segments = np.random.default_rng(0).uniform(0, 32, (12, 2, 2))
    segments[0, 1, 1], segments[1, 1, 0] = segments[0, 0, 1], segments[1, 0, 0]  # level, upright
    segments[2, 1] = segments[2, 0]
    free = np.ones(32 * 32, dtype=bool)
    free[500:600] = False
    segment, texel, place = beside(segments, free, 32)
    middle = centers(np.arange(32 * 32), 32)
    steps = np.linspace(0, 1, 301)[:, None, None]
    points = segments[:, 0] + steps * (segments[:, 1] - segments[:, 0])
    away = np.stack([np.linalg.norm(middle[:, None] - p, axis=2) for p in points])
    distance = away.min(axis=0)
    within = np.flatnonzero((distance.min(axis=1) <= 1) & free)
    assert np.isin(within, texel).all() and free[texel].all()
    near = np.isin(texel, within)
    found = segments[segment, 0] + place[:, None] * (segments[segment, 1] - segments[segment, 0])
    offset = np.linalg.norm(found - middle[texel], axis=1)
    np.testing.assert_allclose(offset[near], distance[texel[near]].min(axis=1), atol=0.05)
    assert offset.max() < 2.5


def test_sampling_is_bilinear_in_linear_light_with_v_upwards() -> None:
    texture = np.zeros((256, 256, 3), dtype=np.uint8)
    texture[0, 0], texture[0, 1], texture[255, 0] = [255, 0, 0], [0, 0, 255], [0, 255, 0]
    uvs = np.array([[0.5, 255.5], [1.0, 255.5], [0.5, 0.5], [0.0, 256.0], [1.25, 255.0]]) / 256
    half, eighth, three = (float(linear_to_srgb(np.array(x))) for x in (0.5, 0.125, 0.375))
    expected = [[1, 0, 0], [half, 0, half], [0, 1, 0], [1, 0, 0], [eighth, 0, three]]
    np.testing.assert_allclose(sample_texture(texture, uvs), expected, atol=1e-6)


@pytest.mark.parametrize("size", [0, 128, 1000, 8192, True])
def test_other_sizes_are_refused(by_grid: Mesh, size: int) -> None:
    with pytest.raises(ExportError, match=f"texture size {size}; choose one of .*{SIZES[0]}"):
        bake(SMOOTH, by_grid, size)


def test_a_mesh_without_uvs_is_refused() -> None:
    with pytest.raises(ExportError, match="unwrap it first"):
        bake(SMOOTH, soup(3), 256)


def test_a_mesh_without_room_in_the_atlas_is_refused() -> None:
    with pytest.raises(ExportError, match="no face"):
        bake(SMOOTH, flat(np.full((3, 2), 9.0), np.array([[0, 1, 2]])), 256)


def test_a_colour_that_is_no_number_is_refused(by_grid: Mesh) -> None:
    nan = Painted((bumpy,), paint=lambda points: points * torch.nan)
    with pytest.raises(ExportError, match="colour"):
        bake(nan, by_grid, 256)
