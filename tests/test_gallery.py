"""Pictures of many answers: the grid, and the commands that fill it from the default model."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from scaledreamer.export.gallery import GROUND, broken, gallery
from scaledreamer.model.library import save_generator
from tests.commands import scaledreamer
from tests.test_pipeline import tiny

ROOT = Path(__file__).parents[1]


def square(color: str) -> Image.Image:
    return Image.new("RGBA", (40, 40), color)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_pictures_stand_in_rows_on_the_ground_with_ink_below_them() -> None:
    page = np.asarray(gallery([("a", square("red")), ("b", square("blue")), ("c", Image.new("RGBA", (40, 40)))], 2))
    height = len(page) // 2
    assert page.shape == (2 * height, 80, 3) and height > 40
    assert (page[:40, :40] == (255, 0, 0)).all() and (page[:40, 40:] == (0, 0, 255)).all()
    assert (page[height : height + 40, :40] == GROUND).all(), "what is transparent shows the ground"
    assert (page[height:, 40:] == GROUND).all(), "no fourth picture"
    labels = [page[top + 40 : top + height, left : left + 40] for top, left in ((0, 0), (0, 40), (height, 0))]
    assert all((label < 100).any() for label in labels)


def test_a_long_label_is_broken_between_words_and_a_long_word_is_kept() -> None:
    font = ImageFont.load_default(13)
    label = "a wooden barrel with extraordinarilylonghoops"
    lines = broken(label, 90, font)
    assert " ".join(lines) == label and len(lines) > 2
    assert all(font.getlength(line) <= 90 for line in lines[:-1])


def test_gallery_shows_given_prompts_and_otherwise_those_of_the_models_card(tmp_path: Path) -> None:
    small = ("--pixels", 32, "--resolution", 24)
    given = scaledreamer("gallery", "a red barrel", "a blue mug", "-o", tmp_path / "two.png", *small)
    assert given.code == 0 and read(tmp_path / "two.png").shape[1] == 64
    ended = scaledreamer("gallery", "-o", tmp_path / "all.png", "--columns", 8, *small)
    assert ended.code == 0 and read(tmp_path / "all.png").shape[1] == 8 * 32


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gallery.png", "blend.png"])
def test_the_documents_command_draws_the_committed_picture(tmp_path: Path, name: str) -> None:
    committed = f"docs/evidence/{name}"
    told = re.findall(rf"^scaledreamer (.*{committed}.*)$", (ROOT / "docs/default-model.md").read_text(), re.M)
    assert len(told) == 1
    arguments = [tmp_path / name if word == committed else word for word in shlex.split(told[0])]
    assert scaledreamer(*arguments).code == 0
    drawn, wanted = read(tmp_path / name), read(ROOT / committed)
    assert drawn.shape == wanted.shape
    away = np.abs(drawn - wanted).max(axis=2)
    assert (away > 2).mean() < 0.001, "another machine's rounding may move an edge by a pixel, here and there"


def test_blend_is_a_strip_whose_ends_are_the_prompts(tmp_path: Path) -> None:
    small = ("--pixels", 48, "--resolution", 32)
    strip, ends = tmp_path / "strip.png", tmp_path / "ends.png"
    assert scaledreamer("blend", "a red barrel", "a blue mug", "-o", strip, "--steps", 5, *small).code == 0
    assert scaledreamer("gallery", "a red barrel", "a blue mug", "-o", ends, "--columns", 2, *small).code == 0
    found, wanted = (read(path)[:48] for path in (strip, ends))
    assert found.shape[1] == 5 * 48
    assert np.abs(found[:, :48] - wanted[:, :48]).max() <= 2 and np.abs(found[:, -48:] - wanted[:, -48:]).max() <= 2
    tiles = [found[:, 48 * k : 48 * (k + 1)] for k in range(5)]
    assert all(np.abs(a - b).max() > 20 for a, b in pairwise(tiles)), "it moves at every step"


@pytest.mark.parametrize("arguments", [("gallery", "a red barrel"), ("blend", "a red barrel", "a blue mug")])
def test_a_picture_that_is_no_png_is_refused_before_anything_is_made(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    ended = scaledreamer(*arguments, "-o", tmp_path / "x.jpg", "--model", "missing")
    assert ended.code == 2 and "name a .png file" in ended.err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [("gallery", "a corgi", "a red keg"), ("blend", "a red keg", "a corgi")])
def test_what_the_model_does_not_know_is_said_beside_the_picture(arguments: tuple[str, ...], tmp_path: Path) -> None:
    model = tmp_path / "tiny.safetensors"
    save_generator(tiny(), model, {"vocabulary": {"nouns": ["keg"], "words": ["red"]}})
    ended = scaledreamer(
        *arguments, "-o", tmp_path / "x.png", "--model", model, "--pixels", 32, "--resolution", 24
    )  # fmt: skip
    assert ended.code == 0 and (tmp_path / "x.png").exists()
    assert "corgi" in ended.err and ended.err.count("warning") == 1
