"""A base that was round is flat, and nothing else changes."""

import numpy as np
import pytest
import trimesh

from scaledreamer.export.finish import finish_field
from scaledreamer.export.footing import press_flat
from scaledreamer.export.mesh import Mesh
from scaledreamer.export.presets import AssetSettings
from scaledreamer.training.props.shapes import truth
from scaledreamer.training.props.world import Prop


def ball() -> Mesh:
    made = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    vertices = made.vertices.astype(np.float32)
    colors = np.zeros((len(vertices), 3), dtype=np.float32)
    return Mesh(vertices, made.faces.astype(np.int64), colors, vertices / 0.5)


def test_a_ball_stands_on_the_disc_that_the_plane_cuts() -> None:
    pressed = press_flat(ball(), 0.02)
    low = pressed.vertices[:, 2].min()
    assert low == pytest.approx(-0.5 + 0.02)
    solid = trimesh.Trimesh(pressed.vertices, pressed.faces)
    assert solid.is_watertight
    cap = 0.02 * np.pi * (0.5 * 0.02 - 0.02**2 / 3)  # of a ball, cut off: pi h^2 (r - h / 3)
    whole = trimesh.Trimesh(ball().vertices, ball().faces).volume
    assert whole - solid.volume == pytest.approx(cap, rel=0.2)
    flat = np.isclose(solid.triangles_center[:, 2], low, atol=1e-6)
    assert solid.area_faces[flat].sum() == pytest.approx(np.pi * (0.5**2 - 0.48**2), rel=0.15)
    above = ball().vertices[:, 2] > low
    np.testing.assert_array_equal(pressed.vertices[above], ball().vertices[above])


def test_no_share_leaves_the_mesh_and_a_larger_one_takes_as_much_of_its_height() -> None:
    mesh = ball()
    assert press_flat(mesh, 0.0) is mesh
    once = press_flat(mesh, 0.05)
    assert np.ptp(once.vertices[:, 2]) == pytest.approx(0.95)


@pytest.mark.parametrize("kind", ["apple", "chair", "carrot"])
def test_an_asset_stands_flat_and_stays_closed(kind: str) -> None:
    settings = AssetSettings(resolution=64, faces=None, texture=0, lods=0, collision="none", thumbnail=0)
    scene = truth(Prop(kind, "red", "plain"))
    asset, as_it_was = (
        finish_field(scene, settings.model_copy(update={"footing": share}), kind, "truth") for share in (0.02, 0.0)
    )
    solid, before = (trimesh.Trimesh(one.levels[0].vertices, one.levels[0].faces) for one in (asset, as_it_was))
    assert solid.is_watertight and "footing" in [step.step for step in asset.report.steps]
    assert foot(solid) >= foot(before) and foot(solid) > 0
    assert solid.volume == pytest.approx(before.volume, rel=0.08)


def foot(solid: trimesh.Trimesh) -> float:
    """Area of what lies in the ground plane."""
    flat = np.isclose(solid.triangles[:, :, 2], solid.bounds[0, 2], atol=1e-4).all(axis=1)
    return float(solid.area_faces[flat].sum())
