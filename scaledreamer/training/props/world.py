"""Which props there are to ask for, and what no training of a model may see."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from scaledreamer.training.props.words import COLORS, KINDS, MATERIALS, SIZES, Word

Split = Literal["seen", "pairs", "sizes", "kinds", "materials", "wordings"]
WorldName = Literal["first", "wide"]


@dataclass(frozen=True)
class Prop:
    """One thing that can be asked for. `second` is None where the kind's own second colour stands."""

    kind: str
    color: str
    size: str = "plain"
    second: str | None = None
    material: str = "any"


@dataclass(frozen=True)
class World:
    """The words in use, and the combinations that are held out of every training."""

    kinds: tuple[str, ...]
    colors: tuple[str, ...]
    visible: bool  # materials and second colours change what is seen, and prompts may ask for them
    held_out_pairs: frozenset[tuple[str, str]]  # kind and colour, for all sizes and wordings
    held_out_sizes: frozenset[tuple[str, str]]  # kind and size, for all colours
    held_out_kinds: tuple[str, ...] = ()  # made of parts that other kinds have

    def props(self) -> Iterator[Prop]:
        """Every kind x size x colour, in the kind's own second colour and of no named material."""
        for kind, size, color in itertools.product(self.kinds, SIZES, self.colors):
            yield Prop(kind, color, size)

    def split_of(self, prop: Prop) -> Literal["seen", "pairs", "sizes", "kinds"]:
        """Where a prop belongs: kinds first, then sizes, since those hold for every colour."""
        if prop.kind in self.held_out_kinds:
            return "kinds"
        if (prop.kind, prop.size) in self.held_out_sizes:
            return "sizes"
        if (prop.kind, prop.color) in self.held_out_pairs:
            return "pairs"
        return "seen"

    def training_props(self) -> list[Prop]:
        """The props that training may use."""
        return [prop for prop in self.props() if self.split_of(prop) == "seen"]

    def said(self, word: Word) -> tuple[str, ...]:
        """The words of a meaning that training uses, the canonical one first."""
        return (*word.train, *word.held_out) if self.visible and word.wide else word.train

    def unsaid(self, word: Word) -> tuple[str, ...]:
        """The words of a meaning that are kept for the test."""
        return word.wide if self.visible and word.wide else word.held_out

    def training_shapes(self) -> list[tuple[str, str]]:
        """Every kind and size that training may see."""
        return list(dict.fromkeys((prop.kind, prop.size) for prop in self.training_props()))

    def parse(
        self, kind: str, color: str, size: str = "plain", second: str | None = None, material: str = "any"
    ) -> Prop:
        """A prop from its slot names; a name that is not in this world is refused with the known ones."""
        slots = ((kind, self.kinds), (color, self.colors), (size, SIZES), (material, MATERIALS), (second, self.colors))
        for value, known in slots:
            if value is not None and value not in known:
                raise ValueError(f"unknown word {value!r}; choose one of {sorted(known)}")
        return Prop(kind, color, size, second, material)


# Two colours a kind on average, every colour twice.
FIRST_PAIRS = frozenset(
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
FIRST_SIZES = frozenset(
    {
        ("mushroom", "tall"), ("table", "tall"),
        ("barrel", "wide"), ("bottle", "wide"),
        ("rocket", "small"), ("house", "small"),
    }
)  # fmt: skip
FIRST = World(tuple(KINDS)[:10], tuple(COLORS)[:8], False, FIRST_PAIRS, FIRST_SIZES)

UNSEEN_KINDS = ("bench", "truck", "well")
LATER = tuple(kind for kind in KINDS if kind not in FIRST.kinds and kind not in UNSEEN_KINDS)
LATER_PAIRS = frozenset(
    (kind, tuple(COLORS)[(5 * number + step) % len(COLORS)]) for number, kind in enumerate(LATER) for step in (0, 7)
)
WIDE_SIZES = FIRST_SIZES | {
    ("crate", "tall"), ("stool", "tall"), ("apple", "tall"), ("shield", "tall"), ("car", "tall"),
    ("vase", "wide"), ("oak", "wide"), ("cake", "wide"), ("cone", "wide"),
    ("lamp", "small"), ("hammer", "small"), ("tower", "small"), ("boat", "small"),
}  # fmt: skip
WIDE = World(tuple(KINDS), tuple(COLORS), True, FIRST_PAIRS | LATER_PAIRS, WIDE_SIZES, UNSEEN_KINDS)
WORLDS: Mapping[str, World] = {"first": FIRST, "wide": WIDE}
