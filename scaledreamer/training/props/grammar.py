"""How a prop is asked for: a wording turns kind, size, colours and material into a prompt.

`world.py` says which props there are and which training may see, `words.py` what they are called. Shapes live in
`shapes.py`, which nothing that trains the generator may import.
"""

import itertools
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from scaledreamer.training.props.words import COLORS, KINDS, MATERIALS, SECONDS, SIZES, TEMPLATES
from scaledreamer.training.props.world import Prop, World


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
    """The prompt for `prop` in this wording; a second colour is said of its part: "with a white stem"."""
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
        part = SECONDS[prop.kind]
        article = "" if part.endswith("s") else "a "
        thing, comma, more = text.partition(",")  # "a red barrel with white bands, game asset"
        text = f"{thing} with {article}{COLORS[prop.second].train[0]} {part}{comma}{more}"
    return with_article(text)


def with_article(text: str) -> str:
    """Write "an" before a vowel: "an orange mug"."""
    words = text.split(" ")
    for here, following in itertools.pairwise(range(len(words))):
        if words[here] == "a" and words[following][0] in "aeiou":
            words[here] = "an"
    return " ".join(words)


def wordings(world: World, prop: Prop, held_out: bool = False) -> Iterator[Wording]:
    """Every way to say `prop` in training, or (held_out) every way that training never uses.

    A held-out wording has a held-out template, noun or colour word, one at a time, the rest canonical.
    """
    noun, color, size = KINDS[prop.kind], COLORS[prop.color], SIZES[prop.size]
    material = MATERIALS[prop.material].train[0]
    if not held_out:
        for template, a, b, c in itertools.product(
            TEMPLATES.train, world.said(noun), world.said(color), world.said(size)
        ):
            yield Wording(template, a, b, c, material)
        return
    plain = Wording(TEMPLATES.train[0], noun.train[0], color.train[0], size.train[0], material)
    yield from (replace(plain, template=template) for template in TEMPLATES.held_out)
    yield from (replace(plain, noun=word) for word in world.unsaid(noun))
    yield from (replace(plain, color=word) for word in world.unsaid(color))
    yield from (replace(plain, size=word) for word in world.unsaid(size))


@dataclass(frozen=True)
class Asked:
    """A prompt, and the prop that it asks for."""

    prompt: str
    prop: Prop


def training_prompts(world: World, per_prop: int) -> list[str]:
    """`per_prop` prompts for each training prop, the canonical one first, the rest a fixed draw from its wordings.

    The list is the same on every machine.
    """
    return [asked.prompt for prop in world.training_props() for asked in asked_for(world, prop, per_prop)]


def prompts_in_turn(world: World, per_prop: int) -> Iterator[str]:
    """The same prompts in another order: the plainest of every prop, in mixed order, then a second one of each, ..."""
    props = sorted(world.training_props(), key=lambda prop: zlib.crc32(canonical(prop).encode()))
    said = [asked_for(world, prop, per_prop) for prop in props]
    for number in range(per_prop):
        yield from (asked[number].prompt for asked in said if number < len(asked))


def asked_for(world: World, prop: Prop, count: int) -> list[Asked]:
    """`count` distinct training prompts of one prop, the canonical one first.

    Where materials and second colours are visible, half of the others name a material and half a second colour, and
    ask for a prop of that material and colour. Where they are not, a quarter names a material all the same.
    """
    plainest = Asked(canonical(prop), prop)
    return [plainest, *(varied(world, prop, count - 1) if world.visible else draws(world, prop)[: count - 1])]


def draws(world: World, prop: Prop) -> list[Asked]:
    """All ways to say a prop but the canonical one, and some that name a material, ordered by a checksum."""
    spoken: list[str] = []
    for index, material in enumerate(MATERIALS):
        said = [say(prop, wording) for wording in wordings(world, replace(prop, material=material))]
        said.sort(key=lambda text: zlib.crc32(text.encode()))
        spoken += said if index == 0 else said[: max(1, len(said) // (3 * (len(MATERIALS) - 1)))]
    spoken = sorted(set(spoken) - {canonical(prop)}, key=lambda text: zlib.crc32(text[::-1].encode()))
    return [Asked(prompt, prop) for prompt in spoken]


def varied(world: World, prop: Prop, count: int) -> list[Asked]:
    """`count` random wordings of random materials and second colours, distinct, the same on every machine."""
    rng = random.Random(zlib.crc32(canonical(prop).encode()))
    others = [color for color in world.colors if color != prop.color]
    found: dict[str, Asked] = {}
    while len(found) < count:
        second = rng.choice(others) if rng.random() < 0.5 else None
        material = rng.choice(list(MATERIALS)[1:]) if rng.random() < 0.5 else "any"
        one = replace(prop, second=second, material=material)
        prompt = say(one, rng.choice(list(wordings(world, one))))
        if prompt != canonical(prop):
            found.setdefault(prompt, Asked(prompt, one))
    return list(found.values())


def vocabulary(world: World) -> dict[str, list[str]]:
    """What a model of this world can be asked for: names of things, words that say more of them, and their parts."""
    known = [kind for kind in world.kinds if kind not in world.held_out_kinds]
    said = [world.said(COLORS[color]) for color in world.colors] + [world.said(word) for word in SIZES.values()]
    materials = [*MATERIALS, "wood", "steel", "shiny"]
    words = {word for group in (*said, materials) for word in group} - {"", "any"}
    return {
        "nouns": [noun for kind in known for noun in world.said(KINDS[kind])],
        "words": sorted(words),
        "parts": sorted({SECONDS[kind] for kind in known}),
    }


def grammar_size(world: World) -> int:
    """How many prompts the whole product holds: kind x size x colour x second colour x material x wording."""
    count = 0
    for prop in world.props():
        for material in MATERIALS:
            said = sum(1 for _ in wordings(world, replace(prop, material=material)))
            count += said * len(world.colors)  # the kind's own second colour, or one of the others
    return count
