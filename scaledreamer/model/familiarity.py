"""Whether a prompt asks for something that a model has learned: by its words first, then by what the encoder hears.

A model answers every prompt, also one about nothing that it ever saw, and what it makes of that looks like something.
So its card lists what it can be asked for, and a prompt is held against that list.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from scaledreamer.config import Config
from scaledreamer.model.text import TextEncoder

FAMILIAR = 0.7  # confidence below which a prompt is outside of what a model knows
HEARD = 0.95  # the most that a likeness of embeddings may claim; 1 means that the words are known
FILLERS = frozenset(
    {
        "a", "an", "the", "one", "of", "and", "with", "in", "on", "made", "from", "painted", "that", "is", "very",
        "please", "make", "me", "some", "plain", "background", "photo", "picture", "object",
        "3d", "model", "game", "asset", "low", "poly",
    }
)  # fmt: skip
ENDS = frozenset(("with", "in", "on", "made", "from", "painted", "that", "which", "of", "and", "for"))  # of a phrase


class Vocabulary(Config):
    """What a model can be asked for: names of things, words that say more of them, and what a thing may be "with"."""

    nouns: tuple[str, ...]
    words: tuple[str, ...]
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Familiar:
    """How sure it is that a prompt asks for something known, and what that is nearest to."""

    confidence: float  # 1: the thing and every other word are known
    nearest: str  # one of the vocabulary's nouns
    unheard: tuple[str, ...] = ()  # said beside a known thing ("and a table"), and like nothing that is known of it

    @property
    def known(self) -> bool:
        """Whether an answer may be expected to be what was asked for."""
        return self.confidence >= FAMILIAR


class Familiarity:
    """A vocabulary as a model's own encoder hears it."""

    def __init__(self, vocabulary: Vocabulary, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.nouns = {noun.lower(): noun for noun in vocabulary.nouns}
        self.words = [word.lower() for word in vocabulary.words]
        self.parts = {part.lower() for part in vocabulary.parts}
        self.longest = max(len(name.split()) for name in (*self.nouns, *self.words))
        self.descriptions_of = lru_cache(maxsize=256)(self.descriptions)

    @cached_property
    def heard(self) -> Float[Tensor, "K D"]:
        """Unit embeddings of "a <noun>", in the order of `nouns`."""
        return self.hear(f"a {noun}" for noun in self.nouns)

    def hear(self, prompts: Iterable[str]) -> Float[Tensor, "B D"]:
        """Unit embeddings."""
        with torch.no_grad():
            return F.normalize(self.encoder.encode(list(prompts)).pooled, dim=-1)

    def of(self, prompt: str) -> Familiar:
        """A known thing in known words is certain, one of which something unknown is said is known but not certain;
        where the first phrase names no known thing, its likeness to one decides.
        """
        words = re.findall(r"[\w'-]+", prompt.lower())
        phrase, end = self.first(words)
        noun = self.noun_at_the_end(phrase)
        if noun is None:
            known = self.known_words(phrase)
            said = [word for at, word in enumerate(phrase) if not known[at]] or words
            likeness = self.heard @ self.hear([" ".join(["a", *said])])[0]
            best = list(self.nouns)[int(likeness.argmax())]
            spelled = get_close_matches(" ".join(phrase[-1:]), self.nouns, 1, cutoff=0.8)  # "mushrom"
            return Familiar(min(HEARD, max(0.0, float(likeness.max()))), self.nouns[(spelled or [best])[0]])
        known = self.known_words(words, noun)
        unknown = [at for at, word in enumerate(words) if not known[at] and word not in FILLERS]
        if not unknown:
            return Familiar(1.0, self.nouns[noun])
        unheard = tuple(words[at] for at in unknown if at > end and not self.hears(words, at, noun))
        return Familiar(FAMILIAR if unheard else HEARD, self.nouns[noun], unheard)

    def first(self, words: list[str]) -> tuple[list[str], int]:
        """The first phrase with content, up to its noun, and where it ends: of "a 3d model of a red rocket in blue"
        that is "red rocket", of "a red rocket launcher" all but the article.
        """
        start = 0
        for end in [*(at for at, word in enumerate(words) if word in ENDS), len(words)]:
            phrase, start = words[start:end], end + 1
            while phrase and self.describes(phrase) and not self.noun_at_the_end(phrase):
                phrase.pop()
            if phrase := [word for word in phrase if word not in FILLERS]:
                return phrase, end
        return [], 0

    def describes(self, phrase: list[str]) -> bool:
        """Whether a phrase ends with a filler or with a word that says more of a thing."""
        endings = {" ".join(phrase[-length:]) for length in range(1, min(self.longest, len(phrase)) + 1)}
        return phrase[-1] in FILLERS or not endings.isdisjoint(self.words)

    def noun_at_the_end(self, phrase: list[str]) -> str | None:
        """The longest known noun that a phrase ends with, in the singular or the plural."""
        for length in range(min(self.longest, len(phrase)), 0, -1):
            ending = " ".join(phrase[-length:])
            for candidate in (ending, ending.removesuffix("s"), ending.removesuffix("es")):
                if candidate in self.nouns:
                    return candidate
        return None

    def known_words(self, words: list[str], noun: str = "") -> list[bool]:
        """Which of the words say the noun, or something known of a thing; parts do so after "with" only."""
        known = [False] * len(words)
        for at in range(len(words)):
            for length in range(1, min(self.longest, len(words) - at) + 1):
                said = " ".join(words[at : at + length])
                part = said in self.parts and "with" in words[:at]
                if part or said in self.words or said in (noun, f"{noun}s", f"{noun}es"):
                    known[at : at + length] = [True] * length
        return known

    def hears(self, words: list[str], at: int, noun: str) -> bool:
        """Whether an unknown word, with the word that follows where that is known, says something known of a thing:
        whether that is nearer to it than the thing by itself is.
        """
        said = words[at : at + 2] if words[at + 1 : at + 2] and words[at + 1] in self.words else words[at : at + 1]
        likeness = self.descriptions_of(noun) @ self.hear([f"a {' '.join(said)} {noun}"])[0]
        return int(likeness.argmax()) > 0

    def descriptions(self, noun: str) -> Float[Tensor, "W D"]:
        """Unit embeddings of "a <noun>", then of "a <word> <noun>"."""
        return self.hear(["a " + noun, *(f"a {word} {noun}" for word in self.words)])
