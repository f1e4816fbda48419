"""Other words for the same prompt."""

import pytest

from scaledreamer.prompt import MAX_CHARACTERS, check_prompt, said_otherwise


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a mug", ["mug", "the mug", "a 3d model of a mug", "a mug, game asset", "a low poly mug"]),
        ("the apple", ["apple", "a 3d model of an apple", "an apple, game asset", "a low poly apple"]),
        ("An axe", ["axe", "the axe", "a 3d model of an axe", "an axe, game asset", "a low poly axe"]),
        ("antlers", ["the antlers", "a 3d model of an antlers", "an antlers, game asset", "a low poly antlers"]),
    ],
)  # fmt: skip
def test_other_wordings_name_the_same_thing(prompt: str, said: list[str]) -> None:
    assert said_otherwise(prompt) == said


def test_no_other_wording_is_longer_than_a_prompt_may_be() -> None:
    longest = "x" * MAX_CHARACTERS
    assert said_otherwise(longest) == []
    assert all(check_prompt(text) for text in said_otherwise("a " + longest[:-2]))
