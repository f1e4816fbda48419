"""Official cameras: evaluation orbits and the training samplers for recorded draws."""

import math

import pytest
import torch
from fixtures import error, fixture, under

from scaledreamer.model.cameras import Camera, orbit, rays
from scaledreamer.training.views import Draws, ViewsConfig, place

TENSORS, META = fixture("cameras")


def check(camera: Camera, expected: dict[str, torch.Tensor]) -> None:
    size = META["hw"]
    origins, directions = rays(camera, size, size)
    assert error(camera.c2w, expected["c2w"]) < 2e-5
    assert error(camera.position, expected["camera_positions"]) < 2e-5
    assert error(origins, expected["rays_o"]) < 2e-5
    assert error(directions, expected["rays_d"]) < 2e-5


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_orbits_equal_the_official_ones(split: str) -> None:
    expected = under(f"{split}/", TENSORS)
    elevation, azimuth = (torch.deg2rad(expected[f"{name}_deg"]) for name in ("elevation", "azimuth"))
    camera = orbit(elevation, azimuth, expected["camera_distances"], torch.full((4,), math.radians(70)))
    check(camera, expected)
    assert error(camera.fovy, expected["fovy"]) < 2e-5


@pytest.mark.parametrize("law", ["uniform_angle", "sphere"])
@pytest.mark.parametrize("prior", ["sd", "mv"])
def test_training_cameras_equal_the_official_ones(prior: str, law: str) -> None:
    expected, ranges = under(f"train_{prior}_{law}/", TENSORS), META["ranges"][prior]
    draw = {index: expected[f"draw_{index}"] for index in range(5)}
    config = ViewsConfig(
        views=1 if prior == "sd" else META["n_view"],
        elevation_deg=ranges["elevation_range"],
        distance=ranges["camera_distance_range"],
        fovy_deg=ranges["fovy_range"],
        relative_distance=prior == "mv",
        elevation_law="half-sphere" if prior == "sd" else "half-percent",
    )
    fovy, distance = (draw[4], draw[2]) if prior == "sd" else (draw[2], draw[3])
    camera = place(config, Draws(draw[0], draw[1], fovy, distance, law == "sphere"))
    check(camera, expected)
    assert error(camera.fovy if prior == "sd" else torch.rad2deg(camera.fovy), expected["fovy"]) < 2e-5


def test_three_cameras_are_not_crossed_along_the_batch() -> None:
    turn = torch.tensor([0.0, 2.0, 4.0])
    c2w = orbit(torch.full((3,), 0.3), turn, torch.ones(3), torch.ones(3)).c2w[:, :3, :3]
    assert torch.allclose(c2w @ c2w.mT, torch.eye(3).expand(3, 3, 3), atol=1e-6)
    assert torch.allclose(torch.linalg.det(c2w), torch.ones(3), atol=1e-6)
