"""The words of the props world: what can be asked for, in how many ways, and what no model may see in training.

A prop is kind x size x main colour x second colour x material; a wording turns it into a prompt. This module knows
words only. Shapes live in `shapes.py`, which nothing that trains the generator may import.
"""

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

Split = Literal["seen", "pairs", "sizes", "wordings"]


@dataclass(frozen=True)
class Word:
    """One meaning with the words that training uses (the first is canonical) and the words kept for the test."""

    train: tuple[str, ...]
    held_out: tuple[str, ...] = ()


KINDS: dict[str, Word] = {
    "barrel": Word(("barrel", "cask"), ("keg",)),
    "chest": Word(("treasure chest", "chest"), ("loot chest",)),
    "tree": Word(("pine tree", "fir tree"), ("spruce tree",)),
    "bottle": Word(("potion bottle", "potion"), ("potion flask",)),
    "mushroom": Word(("mushroom", "fungus"), ("toadstool",)),
    "chair": Word(("chair", "dining chair"), ("kitchen chair",)),
    "table": Word(("table", "dining table"), ("kitchen table",)),
    "house": Word(("house", "cottage"), ("cabin",)),
    "mug": Word(("mug", "cup"), ("coffee mug",)),
    "rocket": Word(("rocket", "rocket ship"), ("space rocket",)),
}
COLORS: dict[str, Word] = {
    "red": Word(("red", "crimson"), ("scarlet",)),
    "orange": Word(("orange", "tangerine"), ("bright orange",)),
    "yellow": Word(("yellow", "lemon yellow"), ("sunny yellow",)),
    "green": Word(("green", "emerald"), ("leaf green",)),
    "cyan": Word(("cyan", "turquoise"), ("aqua",)),
    "blue": Word(("blue", "royal blue"), ("cobalt blue",)),
    "purple": Word(("purple", "violet"), ("deep purple",)),
    "pink": Word(("pink", "rose pink"), ("hot pink",)),
}
SIZES: dict[str, Word] = {  # "plain" is said by saying nothing
    "plain": Word(("",)),
    "tall": Word(("tall",), ("very tall",)),
    "wide": Word(("wide", "broad"), ("very wide",)),
    "small": Word(("small", "little"), ("tiny",)),
}
MATERIALS: dict[str, Word] = {  # understood in a prompt; in this release a material changes nothing that can be seen
    "any": Word(("",)),
    "wooden": Word(("wooden",)),
    "metal": Word(("metal",)),
    "stone": Word(("stone",)),
    "glossy": Word(("glossy",), ("shiny",)),
}
# {thing} is "small red wooden barrel"; the other templates place the words themselves.
TEMPLATES = Word(
    (
        "a {thing}",
        "{thing}",
        "the {thing}",
        "a 3d model of a {thing}",
        "a {thing}, game asset",
        "a low poly {thing}",
        "a {size} {material} {noun} in {color}",
        "a {size} {material} {noun} painted {color}",
    ),
    (
        "a photo of a {thing}",
        "one {thing} on a plain background",
        "please make a {thing}",
        "a {size} {material} {noun} that is {color}",
    ),
)

# Held out of every training, for all sizes and wordings: two colours a kind on average, every colour twice.
HELD_OUT_PAIRS: frozenset[tuple[str, str]] = frozenset(
    {
        ("mushroom", "red"), ("chest", "red"),
        ("barrel", "orange"), ("mug", "orange"),
        ("table", "yellow"), ("house", "yellow"),
        ("tree", "green"), ("rocket", "green"),
        ("chair", "cyan"), ("barrel", "cyan"),
        ("bottle", "blue"), ("house", "blue"),
        ("chest", "purple"), ("mug", "purple"),
        ("table", "pink"), ("tree", "pink"),
    }
)  # fmt: skip
# Held out of every training, for all colours: these change the shape.
HELD_OUT_SIZES: frozenset[tuple[str, str]] = frozenset(
    {
        ("mushroom", "tall"), ("table", "tall"),
        ("barrel", "wide"), ("bottle", "wide"),
        ("rocket", "small"), ("house", "small"),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Prop:
    """One thing that can be asked for. `second` is None where the kind's own second colour stands."""

    kind: str
    color: str
    size: str = "plain"
    second: str | None = None
    material: str = "any"


@dataclass(frozen=True)
class Wording:
    """How a prop is said: the template and the word chosen for each meaning."""

    template: str
    noun: str
    color: str
    size: str = ""
    material: str = ""


def canonical(prop: Prop) -> str:
    """The plainest prompt: "a small red barrel"."""
    return say(
        prop,
        Wording(
            TEMPLATES.train[0],
            KINDS[prop.kind].train[0],
            COLORS[prop.color].train[0],
            SIZES[prop.size].train[0],
            MATERIALS[prop.material].train[0],
        ),
    )


def say(prop: Prop, wording: Wording) -> str:
    """The prompt for `prop` in this wording; a second colour is added as "with a blue trim"."""
    words = (wording.size, wording.color, wording.material, wording.noun)
    text = wording.template.format(
        thing=" ".join(word for word in words if word),
        noun=wording.noun,
        color=wording.color,
        size=wording.size,
        material=wording.material,
    )
    text = " ".join(text.split())
    if prop.second is not None:
        text += f" with {COLORS[prop.second].train[0]} details"
    return with_article(text)


def with_article(text: str) -> str:
    """Write "an" before a vowel: "an orange mug"."""
    words = text.split(" ")
    for here, following in itertools.pairwise(range(len(words))):
        if words[here] == "a" and words[following][0] in "aeiou":
            words[here] = "an"
    return " ".join(words)


def wordings(prop: Prop, held_out: bool = False) -> Iterator[Wording]:
    """Every way to say `prop` in training, or (held_out) every way that training never uses.

    A held-out wording has a held-out template, noun or colour word, one at a time, the rest canonical.
    """
    noun, color, size = KINDS[prop.kind], COLORS[prop.color], SIZES[prop.size]
    material = MATERIALS[prop.material].train[0]
    if not held_out:
        for template, a, b, c in itertools.product(TEMPLATES.train, noun.train, color.train, size.train):
            yield Wording(template, a, b, c, material)
        return
    plain = Wording(TEMPLATES.train[0], noun.train[0], color.train[0], size.train[0], material)
    yield from (replace(plain, template=template) for template in TEMPLATES.held_out)
    yield from (replace(plain, noun=word) for word in noun.held_out)
    yield from (replace(plain, color=word) for word in color.held_out)
    yield from (replace(plain, size=word) for word in size.held_out)


def all_props() -> Iterator[Prop]:
    """Every kind x size x colour with the kind's own second colour and no material: what this release fills."""
    for kind, size, color in itertools.product(KINDS, SIZES, COLORS):
        yield Prop(kind, color, size)


def split_of(prop: Prop) -> Literal["seen", "pairs", "sizes"]:
    """Where a prop belongs: held-out sizes first, since they hold for every colour."""
    if (prop.kind, prop.size) in HELD_OUT_SIZES:
        return "sizes"
    if (prop.kind, prop.color) in HELD_OUT_PAIRS:
        return "pairs"
    return "seen"


def training_props() -> list[Prop]:
    """The props that training may use."""
    return [prop for prop in all_props() if split_of(prop) == "seen"]


def training_prompts(per_prop: int) -> list[str]:
    """`per_prop` prompts for each training prop, the canonical one first, the rest a fixed draw from its wordings.

    A quarter of the drawn prompts name a material. The list is the same on every machine.
    """
    return [prompt for prop in training_props() for prompt in prompts_of(prop, per_prop)]


def prompts_of(prop: Prop, count: int) -> list[str]:
    """`count` distinct training prompts of one prop: the canonical one, then draws ordered by a checksum."""
    spoken: list[str] = []
    for index, material in enumerate(MATERIALS):
        said = [say(prop, wording) for wording in wordings(replace(prop, material=material))]
        said.sort(key=lambda text: zlib.crc32(text.encode()))
        spoken += said if index == 0 else said[: max(1, len(said) // (3 * (len(MATERIALS) - 1)))]
    spoken = sorted(set(spoken) - {canonical(prop)}, key=lambda text: zlib.crc32(text[::-1].encode()))
    return [canonical(prop), *spoken[: count - 1]]


def grammar_size() -> int:
    """How many prompts the whole product holds: kind x size x colour x second colour x material x wording."""
    count = 0
    for kind, size, color, material in itertools.product(KINDS, SIZES, COLORS, MATERIALS):
        said = sum(1 for _ in wordings(Prop(kind, color, size, material=material)))
        count += said * len(COLORS)  # the kind's own second colour, or one of the others
    return count


def parse(kind: str, color: str, size: str = "plain") -> Prop:
    """A prop from its slot names; a name that is not in the grammar is refused with the known ones."""
    for value, known in ((kind, KINDS), (color, COLORS), (size, SIZES)):
        if value not in known:
            raise ValueError(f"unknown word {value!r}; choose one of {sorted(known)}")
    return Prop(kind, color, size)
