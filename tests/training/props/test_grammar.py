"""The words of the props world and what training never sees."""

import subprocess
import sys

import pytest

from scaledreamer.training.props.grammar import (
    COLORS,
    HELD_OUT_PAIRS,
    HELD_OUT_SIZES,
    KINDS,
    SIZES,
    TEMPLATES,
    Prop,
    all_props,
    canonical,
    grammar_size,
    parse,
    prompts_of,
    say,
    split_of,
    training_prompts,
    training_props,
    wordings,
)


def test_the_grammar_is_as_large_as_promised() -> None:
    assert grammar_size() > 100_000
    assert len(KINDS) >= 10 and len(COLORS) >= 8 and len(SIZES) >= 4
    assert len(set(all_props())) == len(KINDS) * len(COLORS) * len(SIZES)


def test_what_is_held_out_never_reaches_training() -> None:
    held_out = {canonical(prop) for prop in all_props() if split_of(prop) != "seen"}
    held_out |= {say(p, w) for p in all_props() if split_of(p) != "seen" for w in wordings(p)}
    unused = {say(prop, w) for prop in all_props() for w in wordings(prop, held_out=True)}
    prompts = set(training_prompts(64))
    assert not prompts & held_out
    assert not prompts & unused
    assert "a red mushroom" in held_out and "a blue potion bottle" in held_out


def test_no_held_out_word_stands_in_a_training_prompt() -> None:
    said = " | ".join(training_prompts(64))
    for words in (KINDS, COLORS):
        for word in words.values():
            for never in word.held_out:
                assert never not in said, never
    assert not any(template.split("{")[0].strip() in said for template in ("a photo of a {", "please make a {"))
    assert not set(TEMPLATES.train) & set(TEMPLATES.held_out)


def test_every_colour_kind_and_size_is_trained_in_some_combination() -> None:
    props = training_props()
    assert {prop.kind for prop in props} == set(KINDS)
    assert {prop.color for prop in props} == set(COLORS)
    for kind in KINDS:
        own = [prop for prop in props if prop.kind == kind]
        assert len({prop.color for prop in own}) >= 6 and len({prop.size for prop in own}) >= 3
    assert len(props) == len(list(all_props())) - 48 - 55
    assert len(HELD_OUT_PAIRS) == 16 and len(HELD_OUT_SIZES) == 6


def test_prompts_are_distinct_begin_with_the_canonical_one_and_never_change() -> None:
    prompts = prompts_of(Prop("mug", "green"), 16)
    assert prompts[0] == "a green mug" and len(set(prompts)) == 16
    code = "from scaledreamer.training.props.grammar import *; print(training_prompts(5))"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == str(training_prompts(5))


def test_a_vowel_takes_an() -> None:
    assert canonical(Prop("mug", "orange")) == "an orange mug"
    assert canonical(Prop("mug", "orange", "tall")) == "a tall orange mug"


def test_an_unknown_word_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown word 'beige'.*'red'"):
        parse("mug", "beige")
