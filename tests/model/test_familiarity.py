"""Whether a prompt asks for something known: by words, and where words fail by likeness."""

import pytest

from scaledreamer.model.familiarity import FAMILIAR, Familiarity, Vocabulary
from scaledreamer.model.text import MiniLM

NOUNS = ("barrel", "keg", "mushroom", "toadstool", "rocket", "rocket ship", "treasure chest", "chair", "mug", "cabin")
WORDS = ("red", "crimson", "blue", "small", "wooden", "wood", "white", "stem", "royal blue")


@pytest.fixture(scope="module")
def familiarity() -> Familiarity:
    return Familiarity(Vocabulary(nouns=NOUNS, words=WORDS), MiniLM())


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


@pytest.mark.parametrize("prompt", ["a quarterly tax filing", "a corgi", "an astronaut riding a horse", "asdf", "!?"])
def test_what_was_never_learned_is_not_known(familiarity: Familiarity, prompt: str) -> None:
    found = familiarity.of(prompt)
    assert not found.known and 0 <= found.confidence < FAMILIAR
    assert found.nearest in NOUNS


def test_a_known_thing_of_which_something_unknown_is_said_is_known_but_not_certain(familiarity: Familiarity) -> None:
    found = familiarity.of("an old cabin in the woods")
    assert found.nearest == "cabin" and FAMILIAR <= found.confidence < 1


def test_a_noun_that_only_describes_is_not_the_thing(familiarity: Familiarity) -> None:
    assert familiarity.head(["a", "red", "rocket", "launcher"]) is None
    assert familiarity.head(["a", "launcher", "for", "a", "rocket"]) is None
    assert familiarity.head(["a", "red", "rocket"]) == "rocket"


def test_another_word_for_a_known_thing_is_heard(familiarity: Familiarity) -> None:
    found = familiarity.of("a spaceship rocket-ship")
    assert found.nearest in ("rocket", "rocket ship") and found.confidence < 1
