"""The words of the props world and what training never sees."""

import itertools
import subprocess
import sys

import pytest

from scaledreamer.training.prompts import PropsCorpus, read_corpus
from scaledreamer.training.props.grammar import (
    asked_for,
    canonical,
    grammar_size,
    prompts_in_turn,
    say,
    training_prompts,
    wordings,
)
from scaledreamer.training.props.words import COLORS, KINDS, MATERIALS, SECONDS, SIZES, TEMPLATES
from scaledreamer.training.props.world import FIRST, WIDE, Prop, World

both = pytest.mark.parametrize("world", [FIRST, WIDE], ids=["first", "wide"])


@both
def test_the_grammar_is_as_large_as_promised(world: World) -> None:
    assert grammar_size(world) > 100_000
    assert len(SIZES) >= 4 and len(set(world.props())) == len(world.kinds) * len(world.colors) * len(SIZES)


def test_the_wide_world_holds_the_first_and_more() -> None:
    assert set(FIRST.kinds) < set(WIDE.kinds) and set(FIRST.colors) < set(WIDE.colors)
    assert len(set(WIDE.kinds) - set(WIDE.held_out_kinds)) >= 32 and len(WIDE.colors) == 12
    assert FIRST.held_out_pairs < WIDE.held_out_pairs and FIRST.held_out_sizes < WIDE.held_out_sizes
    assert set(SECONDS) == set(KINDS)
    nouns = [word for kind in KINDS.values() for word in (*kind.train, *kind.held_out, *kind.wide)]
    assert len(nouns) == len(set(nouns))
    assert "keg" in WIDE.said(KINDS["barrel"]) and WIDE.unsaid(KINDS["barrel"]) == ("wine barrel",)
    assert FIRST.unsaid(KINDS["barrel"]) == ("keg",) and WIDE.unsaid(KINDS["tree"]) == KINDS["tree"].held_out


@both
def test_what_is_held_out_never_reaches_training(world: World) -> None:
    held_out = {canonical(prop) for prop in world.props() if world.split_of(prop) != "seen"}
    held_out |= {say(p, w) for p in world.props() if world.split_of(p) != "seen" for w in wordings(world, p)}
    unused = {say(prop, w) for prop in world.props() for w in wordings(world, prop, held_out=True)}
    prompts = set(training_prompts(world, 24))
    assert not prompts & held_out
    assert not prompts & unused
    assert "a red mushroom" in held_out and "a blue potion bottle" in held_out


@both
def test_no_held_out_word_stands_in_a_training_prompt(world: World) -> None:
    said = " | ".join(f" {prompt} " for prompt in training_prompts(world, 24))
    for words in (KINDS, COLORS):
        for word in words.values():
            for never in world.unsaid(word):
                assert f" {never} " not in said, never
    assert not any(template.split("{")[0].strip() in said for template in ("a photo of a {", "please make a {"))
    assert not set(TEMPLATES.train) & set(TEMPLATES.held_out)


@both
def test_every_colour_kind_and_size_is_trained_in_some_combination(world: World) -> None:
    props = world.training_props()
    assert {prop.kind for prop in props} == set(world.kinds) - set(world.held_out_kinds)
    assert {prop.color for prop in props} == set(world.colors)
    for kind in {prop.kind for prop in props}:
        own = [prop for prop in props if prop.kind == kind]
        assert len({prop.color for prop in own}) >= 6 and len({prop.size for prop in own}) >= 3


def test_the_first_world_stays_what_its_models_were_trained_on() -> None:
    assert len(FIRST.training_props()) == len(list(FIRST.props())) - 48 - 55
    assert len(FIRST.held_out_pairs) == 16 and len(FIRST.held_out_sizes) == 6
    assert all(asked.prop == Prop("mug", "green") for asked in asked_for(FIRST, Prop("mug", "green"), 64))


@both
def test_prompts_are_distinct_begin_with_the_canonical_one_and_never_change(world: World) -> None:
    prompts = [asked.prompt for asked in asked_for(world, Prop("mug", "green"), 16)]
    assert prompts[0] == "a green mug" and len(set(prompts)) == 16
    name = "FIRST" if world is FIRST else "WIDE"
    code = (
        "from scaledreamer.training.props.grammar import training_prompts as t; "
        f"from scaledreamer.training.props.world import {name} as w; print(t(w, 3))"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert again.stdout.strip() == str(training_prompts(world, 3))


@both
def test_the_first_prompts_of_a_corpus_are_spread_over_the_props(world: World) -> None:
    turns = list(prompts_in_turn(world, 4))
    assert sorted(turns) == sorted(training_prompts(world, 4))
    nouns = [KINDS[kind].train[0] for kind in world.kinds if kind not in world.held_out_kinds]
    first = " | ".join(f"{prompt} " for prompt in turns[:200])
    assert all(f" {noun} " in first for noun in nouns)
    assert read_corpus(PropsCorpus(world="first" if world is FIRST else "wide", wordings=4, most=80)) == turns[:80]


def test_a_prompt_that_names_a_material_or_a_second_colour_asks_for_it() -> None:
    asked = list(itertools.chain.from_iterable(asked_for(WIDE, prop, 40) for prop in WIDE.training_props()[::50]))
    for one in asked:
        assert (one.prop.material == "any") == (not any(word in one.prompt.split() for word in list(MATERIALS)[1:]))
        assert (one.prop.second is None) == (f" {SECONDS[one.prop.kind]}" not in one.prompt.partition(" with ")[2])
    assert 0.4 < sum(one.prop.material != "any" for one in asked) / len(asked) < 0.6
    assert say(Prop("mushroom", "red", second="white"), next(wordings(WIDE, Prop("mushroom", "red")))) == (
        "a red mushroom with a white stem"
    )


def test_a_vowel_takes_an() -> None:
    assert canonical(Prop("mug", "orange")) == "an orange mug"
    assert canonical(Prop("mug", "orange", "tall")) == "a tall orange mug"


def test_an_unknown_word_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown word 'beige'.*'red'"):
        WIDE.parse("mug", "beige")
    with pytest.raises(ValueError, match="unknown word 'crate'"):
        FIRST.parse("crate", "red")
