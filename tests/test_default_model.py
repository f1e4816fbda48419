"""The model that ships: its files, its cards, and that it answers."""

from pathlib import Path

import pytest
import trimesh

from scaledreamer import TextTo3D
from scaledreamer.model.checkpoint import read_header
from scaledreamer.model.library import find_model, read_card, shipped_models
from scaledreamer.training.priors.props import load_prior, prior_path


def test_the_default_generator_and_its_prior_ship_with_cards() -> None:
    assert shipped_models() == ["props"]
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
