"""Names are plain, short, and mean nothing to an engine."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scaledreamer.errors import ExportError
from scaledreamer.export.names import LEAST, slug, unique

GODOT = ["col", "convcol", "colonly", "convcolonly", "navmesh", "occ", "occonly", "vehicle", "wheel", "rigid", "noimp",
         "loop", "cycle", "vcol", "alpha"]  # fmt: skip
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}
PREFIXES = ("ucx", "ubx", "usp", "ucp", "mcdcx")
PIECES = st.sampled_from([*GODOT, "lod0", "lod", "001", "2", "con", "com1", "ucx", "asset", "barrel", "x" * 47])
TRICKY = st.lists(PIECES, min_size=1, max_size=6).flatmap(
    lambda words: st.sampled_from([" ", "_", "-", "$", ".", ""]).map(lambda mark: mark.join(words))
)


def godot_acts_on(name: str) -> bool:
    """What `_teststr` of Godot's scene importer says, for each of its words."""
    what = name.rstrip("0123456789. _").lower()
    return any(what == word or what.endswith((f"-{word}", f"_{word}")) or f"${word}" in what for word in GODOT)


def fault(name: str, limit: int) -> str | None:
    """What is wrong with a name."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or len(name) > limit:
        return "shape"
    if godot_acts_on(name):
        return "Godot"
    if re.fullmatch(r"lod\d+", name.split("-")[-1]):
        return "level of detail"
    if re.search(r"(^|-)\d{3}$", name):
        return "Blender's copy"
    if name.split("-")[0] in PREFIXES:
        return "Unreal"
    return "Windows" if name in DEVICES else None


@settings(deadline=None)
@given(prompt=st.one_of(st.text(), TRICKY), limit=st.integers(LEAST, 64))
@example(prompt="a red wheel", limit=48)
@example(prompt="Straße", limit=48)
@example(prompt="\ud800", limit=48)
def test_a_slug_of_any_text_is_a_harmless_name_and_its_own_slug(prompt: str, limit: int) -> None:
    name = slug(prompt, limit)
    assert fault(name, limit) is None, name
    assert slug(name, limit) == name


@settings(deadline=None)
@given(prompt=st.one_of(st.text(), TRICKY), count=st.integers(2, 12))
def test_unique_names_differ_and_are_as_harmless_as_slugs(prompt: str, count: int) -> None:
    taken: set[str] = set()
    for _ in range(count):
        name = unique(slug(prompt), taken)
        assert name not in taken and fault(name, 48) is None
        taken.add(name)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a red wooden barrel", "a-red-wooden-barrel"),
        ("  Crème brûlée, #2!  ", "creme-brulee-2"),
        ("king's crown", "kings-crown"),
        ("Straße", "strasse"),
        ("ﬁfth ½ mug", "fifth-1-2-mug"),
        ("красный mug", "mug"),
        ("a bicycle wheel", "a-bicycle-wheel-asset"),
        ("BARREL_ConvCol", "barrel-convcol-asset"),
        ("barrel $colonly 12", "barrel-colonly-12"),  # "12" is a word of its own, so Godot sees none of its own
        ("barrel-col12", "barrel-col12-asset"),
        ("rock_LOD0", "rock-lod0-asset"),
        ("rock.001", "rock-001-asset"),
        ("UCX_barrel", "asset-ucx-barrel"),
        ("CON", "con-asset"),
        ("lpt1", "lpt1-asset"),
        ("protocol", "protocol"),
        ("a wheelbarrow", "a-wheelbarrow"),
    ],
)
def test_slug_of(prompt: str, name: str) -> None:
    assert slug(prompt) == name


def test_a_long_prompt_is_cut_between_words() -> None:
    assert slug("a very long description of a chair with many more words than fit") == (
        "a-very-long-description-of-a-chair-with-many"
    )
    assert slug("a " + "x" * 99) == "a-" + "x" * 46
    assert slug("word " * 30, 16) == "word-word-word"


def test_a_text_without_letters_is_named_by_its_hash() -> None:
    assert slug("木の椅子") != slug("木の机")
    assert re.fullmatch(r"asset-[0-9a-f]{8}", slug("木の椅子"))
    assert slug("") == "asset-da39a3ee"


def test_a_name_that_is_taken_is_numbered() -> None:
    assert unique("barrel", []) == "barrel"
    assert unique("barrel", ["barrel"]) == "barrel-2"
    assert unique("barrel", {"barrel", "barrel-2", "barrel-3"}) == "barrel-4"
    assert unique("ucx-1", {"ucx-1"}) == "ucx-1-2"  # not a slug, but an answer all the same
    assert unique("b" * 48, {"b" * 48}) == "b" * 46 + "-2"


def test_numbers_that_look_like_blender_s_are_left_out() -> None:
    taken = {"barrel", *(f"barrel-{i}" for i in range(100))}
    assert unique("barrel", taken) == "barrel-1000"


@settings(deadline=None)
@given(limit=st.integers(max_value=LEAST - 1))
def test_a_limit_without_room_is_refused(limit: int) -> None:
    with pytest.raises(ExportError, match="at least 16 are needed"):
        slug("barrel", limit)
