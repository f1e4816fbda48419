"""Whether a prompt asks for something known: by words, and where words fail by likeness."""

import pytest

from scaledreamer.model.familiarity import FAMILIAR, Familiarity, Vocabulary
from scaledreamer.model.text import MiniLM

NOUNS = (
    "barrel", "keg", "mushroom", "toadstool", "rocket", "rocket ship", "treasure chest", "chair", "mug", "cabin",
    "lamp", "traffic cone",
)  # fmt: skip
WORDS = ("red", "crimson", "blue", "small", "wooden", "wood", "white", "royal blue")
PARTS = ("stem", "post", "door", "cone")


@pytest.fixture(scope="module")
def familiarity() -> Familiarity:
    return Familiarity(Vocabulary(nouns=NOUNS, words=WORDS, parts=PARTS), MiniLM())


@pytest.mark.parametrize(
    ("prompt", "noun"),
    [
        ("crimson toadstool", "toadstool"),
        ("a keg made of wood, painted blue", "keg"),
        ("a 3d model of a small Rocket Ship", "rocket ship"),
        ("a red mushroom with a white stem, game asset", "mushroom"),
        ("please make a royal blue treasure chest", "treasure chest"),
        ("three wooden chairs", "chair"),
    ],
)
def test_known_words_in_any_order_are_known(familiarity: Familiarity, prompt: str, noun: str) -> None:
    found = familiarity.of(prompt)
    assert found.nearest == noun and found.known
    assert found.confidence == 1 or "three" in prompt


@pytest.mark.parametrize(
    "prompt",
    [
        "a quarterly tax filing", "a corgi", "an astronaut riding a horse", "asdf", "!?", "", "a corgi on a chair",
        "a wooden door", "a truck",
    ],
)  # fmt: skip
def test_what_was_never_learned_is_not_known(familiarity: Familiarity, prompt: str) -> None:
    found = familiarity.of(prompt)
    assert not found.known and 0 <= found.confidence < FAMILIAR
    assert found.nearest in NOUNS


def test_a_known_thing_of_which_something_unknown_is_said_is_known_but_not_certain(familiarity: Familiarity) -> None:
    found = familiarity.of("an old cabin in the woods")
    assert found.nearest == "cabin" and FAMILIAR <= found.confidence < 1


def test_a_noun_that_only_describes_is_not_the_thing(familiarity: Familiarity) -> None:
    def named(prompt: str) -> str | None:
        return familiarity.noun_at_the_end(familiarity.first(prompt.split())[0])

    assert named("a red rocket launcher") is None
    assert named("a launcher for a rocket") is None
    assert named("a lamp post") is None
    assert named("a red rocket") == "rocket"
    assert named("a 3d model of a rocket red") == "rocket"
    assert named("three traffic cones") == "traffic cone"


@pytest.mark.parametrize(
    ("prompt", "noun", "unheard"),
    [
        ("a chair and a mug", "chair", ("mug",)),
        ("a mug with a rubber handle", "mug", ("rubber", "handle")),
        ("a mushroom with a white stem", "mushroom", ()),
        ("a mug painted in royal blue", "mug", ()),
        ("a chair made of dark wood", "chair", ()),
    ],
)
def test_what_is_said_beside_the_thing_and_is_not_known_is_named(
    familiarity: Familiarity, prompt: str, noun: str, unheard: tuple[str, ...]
) -> None:
    found = familiarity.of(prompt)
    assert found.known and found.nearest == noun and found.unheard == unheard


def test_a_word_of_a_longer_name_is_not_known_by_itself(familiarity: Familiarity) -> None:
    assert familiarity.of("a royal blue chair").confidence == 1 > familiarity.of("a royal chair").confidence


def test_a_slip_of_spelling_is_near_to_what_was_meant(familiarity: Familiarity) -> None:
    assert familiarity.of("a red mushrom").nearest == "mushroom"


def test_another_word_for_a_known_thing_is_heard(familiarity: Familiarity) -> None:
    found = familiarity.of("a spaceship rocket-ship")
    assert found.nearest in ("rocket", "rocket ship") and found.confidence < 1
