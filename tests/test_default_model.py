"""The model that ships: its files, its cards, and that it answers."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from scaledreamer import TextTo3D
from scaledreamer.export.color import linear_to_srgb
from scaledreamer.model.shelf import find_model, read_card, read_header, shipped_models
from scaledreamer.training.priors.props import load_prior, prior_path


def test_the_default_generator_and_its_prior_ship_with_cards() -> None:
    assert shipped_models() == ["props", "props-conv3d", "props-hyper-ingp"]
    cards = [read_card(find_model(None))["card"], read_header(prior_path("shipped"), "props-prior")["card"]]
    for card in cards:
        assert {"command", "steps", "core_hours", "wall_hours", "config", "licence"} <= card.keys()
    assert cards[0]["config"]["distill"]["loss"]["kind"] == "asd", "no other loss takes part in the shipped model"
    assert load_prior(prior_path("shipped")).channels == 4


@pytest.mark.parametrize("prompt", ["a red mushroom", "a blue potion bottle", "a red wooden barrel"])
def test_the_readmes_prompts_become_closed_meshes(prompt: str, tmp_path: Path) -> None:
    TextTo3D.load()(prompt, resolution=64).write(tmp_path / "it.glb")
    mesh = trimesh.load(tmp_path / "it.glb", force="mesh")
    mesh.merge_vertices(merge_norm=True, merge_tex=True)
    assert mesh.is_watertight and mesh.volume > 0


@pytest.mark.parametrize("name", ["props-conv3d", "props-hyper-ingp"])
def test_the_other_generators_ship_with_cards_and_know_a_mushroom(name: str) -> None:
    card = read_card(find_model(name))["card"]
    assert {"command", "steps", "core_hours", "config", "licence", "data", "limits", "metrics"} <= card.keys()
    assert card["config"]["distill"]["loss"]["kind"] == "asd" and card["config"]["prior"]["kind"] == "mvdream"
    mesh = TextTo3D.load(name)("a red mushroom", resolution=64)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).is_watertight
    height = mesh.vertices[:, 2]
    low, high = height.min(), height.max()
    cap, stem = mesh.colors[height > high - 0.3 * (high - low)], mesh.colors[height < low + 0.2 * (high - low)]
    width = np.ptp(mesh.vertices[:, 1])
    stem_width = np.ptp(mesh.vertices[height < low + 0.2 * (high - low), 1])
    assert np.abs(cap.mean(axis=0) - RED).max() < 0.25 and np.abs(stem.mean(axis=0) - CREAM).max() < 0.3
    assert stem_width < 0.75 * width


def test_everything_that_ships_stays_small() -> None:
    assert sum(path.stat().st_size for path in find_model(None).parent.iterdir()) < 20e6


RED, CREAM = np.array([0.80, 0.11, 0.12]), np.array([0.90, 0.85, 0.70])  # the palette's


@pytest.fixture(scope="module")
def pipe() -> TextTo3D:
    return TextTo3D.load()


def as_an_engine_reads_it(pipe: TextTo3D, prompt: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions [V, 3] and sRGB colours [V, 3] of the GLB's own attributes: +Y up, linear light."""
    pipe(prompt, resolution=96).write(folder / "it.glb")
    (mesh,) = trimesh.load(folder / "it.glb", process=False).geometry.values()
    return mesh.vertices, linear_to_srgb(mesh.visual.vertex_attributes["color"][:, :3] / 65535)


def test_a_red_mushroom_has_its_red_cap_above_its_stem(pipe: TextTo3D, tmp_path: Path) -> None:
    places, colors = as_an_engine_reads_it(pipe, "a red mushroom", tmp_path)
    red = np.linalg.norm(colors - RED, axis=1) < np.linalg.norm(colors - CREAM, axis=1)
    up = places[:, 1]
    assert np.median(up[red]) > np.median(up[~red]) + 0.2, "the cap is above the stem in +Y"
    width = np.hypot(places[:, 0], places[:, 2])
    assert np.percentile(width[red], 90) > 1.7 * np.percentile(width[~red & (up < 0)], 90), "the stem is slim"
    top = up > np.percentile(up[red], 50)
    assert np.abs(np.median(colors[top], axis=0) - RED).max() < 0.15


def test_a_chair_looks_along_plus_z(pipe: TextTo3D, tmp_path: Path) -> None:
    places, _ = as_an_engine_reads_it(pipe, "a green chair", tmp_path)
    low, high = places[:, 1].min(), places[:, 1].max()
    back = places[places[:, 1] > low + 0.75 * (high - low)]
    seat = places[places[:, 1] < low + 0.6 * (high - low)]
    assert np.median(back[:, 2]) < np.median(seat[:, 2]) - 0.15, "the back is at the back, so the front looks along +Z"
    assert abs(np.median(back[:, 0])) < 0.1, "and it is in the middle"
