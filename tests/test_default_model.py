"""The model that ships: its files, its cards, and what it makes of what people ask."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from scaledreamer import TextTo3D
from scaledreamer.export.color import linear_to_srgb
from scaledreamer.export.presets import LARGEST, asset_settings
from scaledreamer.model.shelf import find_model, read_card, read_header, shipped_models
from scaledreamer.training.priors.props import load_prior, prior_path
from scaledreamer.training.props.palette import PALETTE
from scaledreamer.training.props.world import WIDE

RED, CREAM, WHITE, BROWN, BLUE = (np.array(PALETTE[name]) for name in ("red", "cream", "white", "brown", "blue"))


def test_the_default_generator_and_its_prior_ship_with_cards() -> None:
    assert shipped_models() == ["props"]
    cards = [read_card(find_model(None))["card"], read_header(prior_path("shipped"), "props-prior")["card"]]
    for card in cards:
        assert {"command", "steps", "core_hours", "wall_hours", "config", "licence", "data", "limits"} <= card.keys()
    assert cards[0]["config"]["distill"]["loss"]["kind"] == "asd", "no other loss takes part in the shipped model"
    assert cards[0]["metrics"]["seen"]["silhouette_iou"] > 0.9
    known = set(WIDE.kinds) - set(WIDE.held_out_kinds)
    assert len(known) == 35 and len(cards[0]["vocabulary"]["nouns"]) > 2 * len(known)
    assert load_prior(prior_path("shipped")).network.config.pixels == 64


@pytest.fixture(scope="module")
def pipe() -> TextTo3D:
    return TextTo3D.load()


@pytest.mark.parametrize(
    "prompt", ["a red mushroom", "a blue potion bottle", "a red wooden barrel", "a metal sword", "a wide green vase"]
)
def test_prompts_become_closed_meshes(pipe: TextTo3D, prompt: str, tmp_path: Path) -> None:
    pipe(prompt, resolution=64).write(tmp_path / "it.glb")
    mesh = trimesh.load(tmp_path / "it.glb", force="mesh")
    mesh.merge_vertices(merge_norm=True, merge_tex=True)
    assert mesh.is_watertight and mesh.volume > 0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("a red mushroom", "a stone house"), ("a wooden table", "a white sailboat"),
        ("a tall yellow traffic cone", "a wide blue bed"), ("a signpost", "a stool"), ("a sword", "a cake"),
        ("an ice cream cone", "a floor lamp"), ("a chair", "an axe"), ("a tent", "a mug"), ("a carrot", "a bookshelf"),
        ("a rocket", "a donut"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("weight", [0.25, 0.5, 0.75])
def test_on_the_way_from_one_prompt_to_another_there_is_one_closed_thing(
    pipe: TextTo3D, a: str, b: str, weight: float
) -> None:
    field = pipe.blend(a, b, weight)
    whole, all_parts = (pipe.mesh(field, resolution=64, parts=parts) for parts in ("largest", "large"))
    solid = trimesh.Trimesh(whole.vertices, whole.faces)
    parts = [part.volume for part in solid.split()]  # an inner hollow has a negative one
    assert solid.is_watertight and sum(volume > 0 for volume in parts) == 1
    assert solid.volume > 0.9 * trimesh.Trimesh(all_parts.vertices, all_parts.faces).volume
    ends = [pipe(end, resolution=64) for end in (a, b)]
    volumes = [float(trimesh.Trimesh(end.vertices, end.faces).volume) for end in ends]
    assert float(solid.volume) == pytest.approx((1 - weight) * volumes[0] + weight * volumes[1], rel=0.15)


def test_a_finished_blend_is_one_part_though_a_thin_bridge_is_in_it(pipe: TextTo3D) -> None:
    settings = asset_settings(floaters=LARGEST, texture=0, lods=0, thumbnail=0, collision="none")
    report = pipe.finish("between", pipe.blend("a wooden table", "a white sailboat", 0.5), settings).report
    assert report.levels[0].facts.parts == 1
    assert report.levels[0].facts.watertight


@pytest.mark.parametrize(
    "prompt", ["crimson toadstool", "a keg made of wood, painted blue", "a sunny yellow claw hammer", "an automobile"]
)
def test_what_people_say_instead_is_known(pipe: TextTo3D, prompt: str) -> None:
    assert pipe.warnings(prompt) == []


@pytest.mark.parametrize("prompt", ["a quarterly tax filing", "a corgi", "a violin", "a bicycle"])
def test_what_it_does_not_know_is_answered_with_a_warning(pipe: TextTo3D, prompt: str) -> None:
    (said,) = pipe.warnings(prompt)
    assert prompt in said and "confidence" in said and "nearest" in said


@pytest.mark.parametrize("name", ["props-conv3d", "props-hyper-ingp"])
def test_the_small_models_of_the_other_classes_have_cards_and_know_a_mushroom(name: str) -> None:
    model = Path(__file__).parents[1] / "examples" / "generators" / f"{name}.safetensors"
    card = read_card(model)["card"]
    assert {"command", "steps", "core_hours", "config", "licence", "data", "limits", "metrics"} <= card.keys()
    assert card["config"]["distill"]["loss"]["kind"] == "asd" and card["config"]["prior"]["kind"] == "mvdream"
    mesh = TextTo3D.load(model)("a red mushroom", resolution=64)
    assert trimesh.Trimesh(mesh.vertices, mesh.faces).is_watertight
    height = mesh.vertices[:, 2]
    low, high = height.min(), height.max()
    cap, stem = mesh.colors[height > high - 0.3 * (high - low)], mesh.colors[height < low + 0.2 * (high - low)]
    width = np.ptp(mesh.vertices[:, 1])
    stem_width = np.ptp(mesh.vertices[height < low + 0.2 * (high - low), 1])
    assert np.abs(cap.mean(axis=0) - RED).max() < 0.25 and np.abs(stem.mean(axis=0) - CREAM).max() < 0.3
    assert stem_width < 0.75 * width


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


@pytest.mark.parametrize(
    ("prompt", "main", "second"),
    [("a red mushroom with a white stem", RED, WHITE), ("a blue mushroom with a brown stem", BLUE, BROWN)],
)
def test_a_second_colour_paints_the_part_that_is_named(
    pipe: TextTo3D, prompt: str, main: np.ndarray, second: np.ndarray, tmp_path: Path
) -> None:
    places, colors = as_an_engine_reads_it(pipe, prompt, tmp_path)
    up = places[:, 1]
    top, bottom = up > np.percentile(up, 70), up < up.min() + 0.15 * np.ptp(up)
    assert np.abs(np.median(colors[top], axis=0) - main).max() < 0.15
    assert np.abs(np.median(colors[bottom], axis=0) - second).max() < 0.2


@pytest.mark.parametrize("kind", ["barrel", "lamp", "crate"])  # no training has seen a tall crate
def test_size_words_change_the_shape(pipe: TextTo3D, kind: str, tmp_path: Path) -> None:
    extents = {
        size: np.ptp(as_an_engine_reads_it(pipe, f"a {size} {kind}", tmp_path)[0], axis=0) for size in ("tall", "wide")
    }
    slender = {size: extent[1] / max(extent[0], extent[2]) for size, extent in extents.items()}
    assert slender["tall"] > 1.5 * slender["wide"]


def test_a_chair_looks_along_plus_z(pipe: TextTo3D, tmp_path: Path) -> None:
    places, _ = as_an_engine_reads_it(pipe, "a green chair", tmp_path)
    low, high = places[:, 1].min(), places[:, 1].max()
    back = places[places[:, 1] > low + 0.75 * (high - low)]
    seat = places[places[:, 1] < low + 0.6 * (high - low)]
    assert np.median(back[:, 2]) < np.median(seat[:, 2]) - 0.15, "the back is at the back, so the front looks along +Z"
    assert abs(np.median(back[:, 0])) < 0.1, "and it is in the middle"
