"""The lattice renderer: silhouettes on the surface, gradients that are right, the same picture as the plain way."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from scaledreamer.model.cameras import Camera, orbit, rays, turntable
from scaledreamer.model.fields.base import Field, FieldSample
from scaledreamer.model.fields.decoders import SummedPlanes
from scaledreamer.model.fields.triplane import TriplaneField, sample_planes
from scaledreamer.model.rendering import LatticeConfig, render
from scaledreamer.model.rendering.compositing import opacity_of, unbiased_opacity, weights_of
from scaledreamer.model.rendering.density import volsdf_density
from scaledreamer.model.rendering.lattice import prefiltered, read_volume


@dataclass
class Ball(Field):
    radius: float = 0.6
    bound: float = 1.0

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int | slice) -> "Ball":
        return self

    def sdf(self, points: Tensor) -> Tensor:
        return points.norm(dim=-1, keepdim=True) - self.radius

    def query(self, points: Tensor) -> FieldSample:
        return FieldSample(self.sdf(points), torch.full_like(points, 0.25))


def small_field(scenes: int = 2) -> TriplaneField:
    torch.manual_seed(0)
    decoder = SummedPlanes(8, 16, sphere_bias=0.5, ball=1.0, color="sigmoid")
    torch.nn.init.normal_(decoder.out.weight, std=0.2)
    return TriplaneField(torch.randn(scenes, 3, 8, 10, 10), decoder, 1.0)


@pytest.mark.parametrize("sharpness", [30.0, 90.0])
def test_a_balls_silhouette_has_its_true_area_even_with_few_samples(sharpness: float) -> None:
    camera = turntable(1, elevation=0.3)
    picture = render(Ball(), camera, None, 64, LatticeConfig(nodes=64, samples=24, sharpness=sharpness))
    angle = math.asin(0.6 / 3.0)  # of the tangent cone
    radius = 32 * math.tan(angle) / math.tan(math.radians(20))
    assert float(picture.opacity.sum()) == pytest.approx(math.pi * radius**2, rel=0.02)
    half = picture.opacity[0, 32, :, 0] > 0.5
    assert int(half.sum()) == pytest.approx(2 * radius, abs=1.5)


def test_a_small_ball_looks_as_large_on_a_coarse_lattice_as_on_a_fine_one() -> None:
    def area(nodes: int) -> float:
        config = LatticeConfig(nodes=nodes, samples=200, sharpness=400.0)
        pictures = (
            render(Ball(0.25), turntable(4), None, 32, config, torch.Generator().manual_seed(seed)) for seed in range(8)
        )
        return float(sum(picture.opacity.sum() for picture in pictures))

    assert area(24) == pytest.approx(area(96), rel=0.01)


def test_a_dilated_ball_looks_like_a_larger_one_and_its_nodes_tell_the_true_distance() -> None:
    plain, dilated = LatticeConfig(nodes=24), LatticeConfig(nodes=24, dilation=0.03)
    larger = render(Ball(0.53), turntable(4), None, 32, plain)
    drawn = render(Ball(0.5), turntable(4), None, 32, dilated)
    assert torch.allclose(drawn.opacity, larger.opacity, atol=1e-4)
    assert drawn.samples is not None and larger.samples is not None
    assert torch.allclose(drawn.samples.sdf, larger.samples.sdf + 0.03, atol=1e-5)


def test_a_prefiltered_quadratic_is_read_right_on_average_and_a_plain_one_too_large() -> None:
    nodes = (torch.arange(16) + 0.5) / 8 - 1
    x, y, z = torch.meshgrid(nodes, nodes, nodes, indexing="ij")
    values = (x**2 + 2 * y**2 + z**2)[None]
    points = torch.rand(1, 1, 40_000, 3, generator=torch.Generator().manual_seed(0)) * 1.5 - 0.75  # whole inner cells
    true = points[..., 0] ** 2 + 2 * points[..., 1] ** 2 + points[..., 2] ** 2

    def too_large(volume: Tensor) -> float:
        return float((read_volume(volume[:, None], points, torch.zeros(3), 1.0)[:, 0] - true).mean())

    laplacian, cell = 8, 1 / 8
    assert too_large(values) == pytest.approx(laplacian * cell**2 / 12, rel=0.02)
    assert abs(too_large(prefiltered(values))) < 1e-4


def test_prefiltering_keeps_what_is_linear_and_its_gradient_is_right() -> None:
    plain = torch.randn(1, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(prefiltered, plain)
    x = torch.arange(5.0)[:, None, None].expand(1, 5, 5, 5)
    assert torch.allclose(prefiltered(x), x)


def test_volsdf_density_inflates_a_soft_silhouette_which_is_why_it_is_not_the_default() -> None:
    camera = turntable(1)
    areas = {
        kind: float(render(Ball(), camera, None, 48, LatticeConfig(opacity=kind, sharpness=20.0)).opacity.sum())
        for kind in ("unbiased", "exponential")
    }
    assert areas["exponential"] > 1.1 * areas["unbiased"]


def test_depth_colour_and_normals_of_a_ball_are_right() -> None:
    camera = orbit(torch.zeros(1), torch.zeros(1), torch.full((1,), 3.0), torch.full((1,), math.radians(40)))
    config = LatticeConfig(nodes=64, samples=200, sharpness=300.0, shaded=False)
    picture = render(Ball(), camera, None, 33, config)
    assert float(picture.depth[0, 16, 16]) == pytest.approx(2.4, abs=0.02)
    assert torch.allclose(picture.rgb[0, 16, 16], torch.full((3,), 0.25), atol=1e-3)
    assert torch.allclose(picture.rgb[0, 0, 0], torch.full((3,), 0.5))


@pytest.mark.parametrize("distance", [0.7, 3.0])
def test_a_camera_sees_what_is_before_it_and_not_what_is_behind(distance: float) -> None:
    camera = orbit(torch.zeros(1), torch.zeros(1), torch.full((1,), distance), torch.full((1,), math.radians(40)))
    config = LatticeConfig(nodes=48, samples=100, sharpness=200.0)
    before = render(Ball(0.3), camera, None, 9, config)
    assert float(before.opacity[0, 4, 4]) > 0.99
    assert float(before.depth[0, 4, 4]) == pytest.approx(distance - 0.3, abs=0.03)
    turned = camera.c2w.clone()
    turned[:, :3, [0, 2]] *= -1  # half a turn about the camera's own up
    behind = render(Ball(0.3), Camera(turned, camera.fovy), None, 9, config)
    assert float(behind.opacity.max()) < 0.01 and float(behind.depth.min()) >= 0


def test_the_broadcast_sum_equals_the_gathered_planes_forward_and_backward() -> None:
    field = small_field()
    field.planes.requires_grad_()
    axes = [torch.linspace(-0.97, 0.93, n) for n in (5, 6, 7)]
    fast = field.lattice(*axes)
    nodes = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(1, -1, 3).expand(2, -1, -1)
    slow = field.query(nodes)
    assert torch.allclose(fast.sdf, slow.sdf, atol=1e-5) and torch.allclose(fast.rgb, slow.rgb, atol=1e-5)
    weight = torch.randn(slow.sdf.shape)
    (by_fast,) = torch.autograd.grad((fast.sdf * weight).sum(), field.planes, retain_graph=True)
    (by_slow,) = torch.autograd.grad((slow.sdf * weight).sum(), field.planes)
    assert torch.allclose(by_fast, by_slow, atol=1e-4)


def test_planes_read_zero_outside_the_box() -> None:
    assert float(sample_planes(torch.ones(1, 3, 2, 4, 4), torch.full((1, 1, 3), 1.5)).abs().max()) == 0


def test_constant_density_has_exponential_weights() -> None:
    length = torch.full((1, 50), 0.1)
    weights = weights_of(opacity_of(torch.full((1, 50), 2.0), length, "exponential"))
    start = torch.arange(50) * 0.1
    assert torch.allclose(weights[0], torch.exp(-2 * start) - torch.exp(-2 * (start + 0.1)), atol=1e-6)


def test_linear_opacity_may_exceed_one_as_the_official_one_does() -> None:
    weights = weights_of(opacity_of(torch.tensor([[30.0, 30.0]]), torch.tensor([[0.05, 0.05]]), "linear"))
    assert torch.allclose(weights, torch.tensor([[1.5, -0.75]]))


def test_unbiased_opacity_does_not_depend_on_how_fine_the_samples_are() -> None:
    distance = torch.linspace(1, -1, 201)
    fine = weights_of(unbiased_opacity(distance, 10.0)).sum()
    coarse = weights_of(unbiased_opacity(distance[::40], 10.0)).sum()
    assert float(fine) == pytest.approx(float(coarse), abs=1e-5)
    assert float(unbiased_opacity(distance.flip(0), 10.0).max()) == 0, "leaving matter absorbs nothing"


def test_volsdf_density_is_half_on_the_surface_and_bounded() -> None:
    sdf = torch.tensor([-10.0, 0.0, 10.0])
    assert torch.allclose(volsdf_density(sdf, 30.0), torch.tensor([30.0, 15.0, 0.0]))


def test_jitter_moves_the_picture_only_a_little_and_only_with_a_generator() -> None:
    field, camera = small_field(1), turntable(2)
    config = LatticeConfig(nodes=40, samples=60)
    with torch.no_grad():
        plain, again = (render(field, camera, None, 24, config).rgb for _ in range(2))
        jittered = render(field, camera, None, 24, config, torch.Generator().manual_seed(0)).rgb
    assert torch.equal(plain, again)
    assert 0 < float((plain - jittered).abs().mean()) < 0.02


def test_scenes_and_views_keep_their_order() -> None:
    field, camera = small_field(2), turntable(6)
    config = LatticeConfig(nodes=16, samples=20)
    with torch.no_grad():
        both = render(field, camera, None, 12, config).rgb
        second = render(field[1], camera[3:], None, 12, config).rgb
    assert torch.allclose(both[3:], second, atol=1e-6)


def test_cameras_that_do_not_share_out_are_refused() -> None:
    with pytest.raises(ValueError, match="3 cameras do not share out over 2 scenes"):
        render(small_field(2), turntable(3), None, 8, LatticeConfig())


def test_rays_start_at_the_camera_and_the_middle_one_meets_the_origin() -> None:
    camera = turntable(3, elevation=0.5)
    origins, directions = rays(camera, 5, 5)
    reached = origins[:, 2, 2] + 3.0 * directions[:, 2, 2]
    assert float(reached.abs().max()) < 1e-5
    assert torch.allclose(directions.norm(dim=-1), torch.ones(3, 5, 5))
