"""Pictures of meshes: framing, direction, colour, and two ways to see that agree."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from scaledreamer.errors import ExportError
from scaledreamer.export import Mesh, extract_mesh, preview
from scaledreamer.export.preview import AZIMUTH, ELEVATION, camera_at, cast_rays, draw, thumbnail, turntable, z_buffer
from scaledreamer.model.cameras import Camera, rays
from scaledreamer.model.cameras import turntable as orbit_cameras
from scaledreamer.model.rendering import LatticeConfig, PlainBackground, render
from scaledreamer.model.rendering.shading import shade
from tests.export.fields import FIELDS, Analytic, ball, box, bumpy, cone, torus, union

QUAD = np.array([[0, 1, 2], [0, 2, 3]])
BRIGHT = shade(torch.tensor([1.0, 0, 0])).item()


@pytest.fixture(params=["embree", "z-buffer"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to see, one after the other."""
    if request.param == "embree":
        pytest.importorskip("embreex")
    else:
        monkeypatch.setattr(preview, "find_spec", lambda name: None)
    return str(request.param)


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGBA"
    return np.asarray(image).astype(np.float64) / 255


def white_ball(subdivisions: int = 5) -> Mesh:
    """A unit ball with exact normals."""
    ball = trimesh.creation.icosphere(subdivisions=subdivisions)
    vertices = ball.vertices.astype(np.float32)
    return Mesh(vertices, ball.faces.astype(np.int64), np.ones_like(vertices), vertices)


def facing_quad(**looks: Any) -> Mesh:
    """A square in the plane x = 0 whose front is +X: corners lower left, lower right, upper right, upper left."""
    corners = np.array([[0, -1, -1], [0, 1, -1], [0, 1, 1], [0, -1, 1]], dtype=np.float32)
    return Mesh(corners, QUAD, looks.pop("colors", np.ones_like(corners)), **looks)


def test_a_ball_is_a_disc_of_the_right_size_and_brightness(backend: str) -> None:
    seen = pixels(thumbnail(white_ball(), 64))
    distance = preview.fitting_distance(white_ball(), AZIMUTH)
    radius = 1 / math.sqrt(distance**2 - 1) / math.tan(math.radians(20))  # of the outline, in half frames
    assert seen[..., 3].mean() == pytest.approx(math.pi * radius**2 / 4, rel=0.01)

    origins, directions = (x[0].numpy() for x in rays(camera_at(AZIMUTH, distance), 64, 64))
    towards = (origins * directions).sum(axis=-1)
    root = towards**2 - (origins**2).sum(axis=-1) + 1
    normals = origins + (-towards - np.sqrt(np.maximum(root, 0)))[..., None] * directions
    inside = root > 0.3  # away from the outline, where a pixel is not one normal
    expected = shade(torch.from_numpy(normals)).numpy()
    np.testing.assert_allclose(seen[inside][:, :3], expected[inside].repeat(3, axis=-1), atol=0.01)
    assert (seen[inside][:, 3] == 1).all()


@pytest.mark.parametrize("name", ["waves", "a thin torus", "a bumpy ball", "two balls far apart"])
def test_rays_and_z_buffer_see_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("embreex")
    mesh = extract_mesh(FIELDS[name], resolution=48)
    by_rays = pixels(thumbnail(mesh, 96))
    monkeypatch.setattr(preview, "find_spec", lambda name: None)
    by_buffer = pixels(thumbnail(mesh, 96))
    a, b = by_rays[..., 3] > 0.5, by_buffer[..., 3] > 0.5
    assert (a & b).sum() / (a | b).sum() > 0.99
    assert np.abs(by_rays - by_buffer)[a & b].mean() < 0.002
    assert np.abs(by_rays[..., 3] - by_buffer[..., 3]).mean() < 0.002


def test_rays_and_z_buffer_name_the_same_faces() -> None:
    pytest.importorskip("embreex")
    mesh, camera = extract_mesh(Analytic((bumpy,)), resolution=24), camera_at(1.0, 4.0)
    assert (cast_rays(mesh, camera, 128) == z_buffer(mesh, camera, 128)).mean() > 0.995


def test_the_picture_is_the_field_s_own(backend: str) -> None:
    field = Analytic((union(cone(), ball(-0.5, 0.3, -0.5, 0.3)),))
    camera = orbit_cameras(16, elevation=ELEVATION)[torch.tensor([1])]
    look = LatticeConfig(nodes=64, samples=96, sharpness=200.0)
    seen = render(field, camera, PlainBackground((0.0, 0.0, 0.0)), 64, look)
    rgb = (seen.foreground / seen.opacity.clamp(min=1e-6))[0].numpy()
    drawn = pixels(draw(extract_mesh(field, resolution=64), Camera(camera.c2w.double(), camera.fovy.double()), 64))
    solid, drawn_solid = seen.opacity[0, ..., 0].numpy() > 0.5, drawn[..., 3] > 0.5
    assert (solid & drawn_solid).sum() / (solid | drawn_solid).sum() > 0.95
    assert np.abs(rgb - drawn[..., :3])[solid & drawn_solid].mean() < 0.02


@pytest.mark.parametrize(
    "shape",
    [cone(), torus(0.9, 0.05), box((-0.9, -0.05, -0.05), (0.9, 0.05, 0.05)), bumpy],
    ids=["cone", "torus", "rod", "bumpy"],
)
def test_the_whole_mesh_is_in_the_frame_and_fills_it(shape: Any) -> None:
    mesh = extract_mesh(Analytic((shape,)), resolution=41)
    alphas = [pixels(image)[..., 3] for image in [thumbnail(mesh, 64), *turntable(mesh, 5, 64)]]
    for alpha in alphas:
        assert alpha[0].max() == alpha[-1].max() == alpha[:, 0].max() == alpha[:, -1].max() == 0
        assert alpha.max() == 1
    rows, columns = np.nonzero(alphas[0])
    assert max(np.abs(rows - 31.5).max(), np.abs(columns - 31.5).max()) > 28


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0.0), (1e4, 0.0), (1.0, 1.0)])
def test_size_and_place_do_not_matter(scale: float, shift: float) -> None:
    mesh = extract_mesh(Analytic((cone(),)), resolution=24)
    moved = replace(mesh, vertices=mesh.vertices * np.float32(scale) + np.float32(shift))
    difference = np.abs(pixels(thumbnail(mesh, 48)) - pixels(thumbnail(moved, 48)))
    assert difference.mean() < 0.002


def test_a_turntable_starts_in_front_and_runs_counter_clockwise(backend: str) -> None:
    mesh = extract_mesh(Analytic((box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)),)), resolution=16)
    normals = np.abs(mesh.vertices).argmax(axis=1)
    side = np.where(mesh.vertices[np.arange(len(normals)), normals] > 0, normals, normals + 3)  # x y z -x -y -z
    colors = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 1], [0, 1, 1], [1, 0, 1], [0, 0, 0]], dtype=np.float32)[side]
    frames = [pixels(image)[40, 24, :3] for image in turntable(replace(mesh, colors=colors), 4, 48)]
    hues = [(frame / frame.max()).round().tolist() for frame in frames]
    assert hues == [[1, 0, 0], [0, 1, 0], [0, 1, 1], [1, 0, 1]]


def test_a_texture_has_its_upper_row_first_and_counts_before_vertex_colours(backend: str) -> None:
    texture = np.zeros((2, 2, 3), dtype=np.uint8)
    texture[0, 0], texture[0, 1], texture[1, 0], texture[1, 1] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    uvs = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    (image,) = turntable(facing_quad(uvs=uvs, texture=texture, colors=np.zeros((4, 3), dtype=np.float32)), 1, 64)
    seen = pixels(image)
    rows = np.flatnonzero((seen[..., 3] == 1).any(axis=1))
    corners = []
    for row in (rows[3], rows[-3]):
        columns = np.flatnonzero(seen[row, :, 3] == 1)  # the lower edge is farther away, thus shorter
        corners += [seen[row, columns[3], :3], seen[row, columns[-3], :3]]
    np.testing.assert_allclose(corners / np.float64(BRIGHT), [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], atol=0.02)


def test_a_texture_is_read_bilinearly_and_vertex_colours_are_interpolated() -> None:
    texture = np.repeat(np.repeat(np.array([0, 255], dtype=np.uint8)[None, :, None], 2, axis=0), 3, axis=2)
    uvs = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    ramp = np.repeat(uvs[:, :1], 3, axis=1)
    quads = facing_quad(uvs=uvs, texture=texture), facing_quad(colors=ramp)
    textured, colored = (pixels(turntable(mesh, 1, 64)[0])[32, :, 0] for mesh in quads)
    for row in (textured, colored):
        inside = row[16:48]
        assert (np.diff(inside) >= 0).all() and len(np.unique(inside)) > 8
    np.testing.assert_allclose(colored[16:48] / BRIGHT, (np.arange(16, 48) - 31.5) / 56 + 0.5, atol=0.05)


def test_edges_are_soft_and_keep_their_colour(backend: str) -> None:
    seen = pixels(thumbnail(facing_quad(colors=np.full((4, 3), 0.5, dtype=np.float32)), 48))
    soft = (seen[..., 3] > 0) & (seen[..., 3] < 1)
    assert soft.sum() > 20 and set(np.unique(seen[..., 3])) <= {round(i * 63.75) / 255 for i in range(5)}
    np.testing.assert_allclose(seen[soft][:, :3], 0.5 * BRIGHT, atol=0.01)
    assert (seen[seen[..., 3] == 0] == 0).all()


def test_one_triangle_is_seen_from_both_sides(backend: str) -> None:
    mesh = replace(facing_quad(), faces=QUAD[:1])
    front, edge_on, back, _ = (pixels(image)[..., 3] for image in turntable(mesh, 4, 48))
    assert front.mean() > 0.1 and edge_on.mean() < 0.05
    np.testing.assert_allclose(front, back[:, ::-1], atol=0.26)


@pytest.mark.parametrize("faces", [QUAD, np.zeros((3, 3), dtype=np.int64)])
def test_faces_without_area_leave_the_picture_empty(backend: str, faces: np.ndarray) -> None:
    point = replace(facing_quad(), vertices=np.full((4, 3), 0.3, dtype=np.float32), faces=faces)
    assert pixels(thumbnail(point, 16)).max() == 0


def test_a_nearer_face_hides_a_farther_one(backend: str) -> None:
    near, far = facing_quad(), facing_quad(colors=np.zeros((4, 3), dtype=np.float32))
    vertices = np.concatenate([far.vertices * [1, 1.5, 1.5] - [1, 0, 0], near.vertices, far.vertices - [0.1, 0, 0]])
    both = Mesh(
        vertices.astype(np.float32), np.concatenate([QUAD, QUAD + 4, QUAD + 8]),
        np.concatenate([far.colors, near.colors, far.colors]),
    )  # fmt: skip
    front, back = (pixels(turntable(both, 2, 48)[frame])[24, 24, 0] for frame in (0, 1))
    assert front == pytest.approx(BRIGHT, abs=0.01) and back == 0


def test_a_mesh_without_faces_is_refused() -> None:
    with pytest.raises(ExportError, match="cannot draw a mesh without faces"):
        thumbnail(replace(facing_quad(), faces=np.zeros((0, 3), dtype=np.int64)))
