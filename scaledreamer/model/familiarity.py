"""Whether a prompt asks for something that a model has learned: by its words first, then by what the encoder hears.

A model answers every prompt, also one about nothing that it ever saw, and what it makes of that looks like something.
So its card lists what it can be asked for, and a prompt is held against that list.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from scaledreamer.config import Config
from scaledreamer.model.text import TextEncoder

FAMILIAR = 0.6  # confidence below which a prompt is outside of what a model knows
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
    """What a model can be asked for: names of things, and words that say more of them."""

    nouns: tuple[str, ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Familiar:
    """How sure it is that a prompt asks for something known, and what that is nearest to."""

    confidence: float  # 1: the thing and every other word are known
    nearest: str  # one of the vocabulary's nouns

    @property
    def known(self) -> bool:
        """Whether an answer may be expected to be what was asked for."""
        return self.confidence >= FAMILIAR


class Familiarity:
    """A vocabulary as a model's own encoder hears it."""

    def __init__(self, vocabulary: Vocabulary, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.nouns = {noun.lower(): noun for noun in vocabulary.nouns}
        self.longest = max(len(noun.split()) for noun in self.nouns)
        self.others = FILLERS | {part for word in vocabulary.words for part in word.lower().split()}

    @cached_property
    def heard(self) -> Float[Tensor, "K D"]:
        """Unit embeddings of "a <noun>", in the order of `nouns`."""
        return self.hear(f"a {noun}" for noun in self.nouns)

    def hear(self, prompts: Iterable[str]) -> Float[Tensor, "B D"]:
        """Unit embeddings."""
        with torch.no_grad():
            return F.normalize(self.encoder.encode(list(prompts)).pooled, dim=-1)

    def of(self, prompt: str) -> Familiar:
        """A known thing in known words is certain; otherwise the likeness of what is left of the prompt decides."""
        words = re.findall(r"[\w'-]+", prompt.lower())
        noun = self.head(words)
        rest = [word for word in words if word not in self.others]
        if noun is not None and not set(rest) - set(noun.split()) - {f"{noun.split()[-1]}s"}:
            return Familiar(1.0, self.nouns[noun])
        likeness = self.heard @ self.hear([" ".join(["a", *(rest or words)])])[0]
        best = int(likeness.argmax())
        confidence = min(HEARD, max(0.0, float(likeness[best])))
        if noun is not None:  # the thing is known, something that is said of it is not
            return Familiar(max(FAMILIAR, confidence), self.nouns[noun])
        return Familiar(confidence, list(self.nouns.values())[best])

    def head(self, words: list[str]) -> str | None:
        """The known noun that the first phrase with content ends with: in "a 3d model of a red rocket" that is rocket,
        in "a red rocket launcher" there is none.
        """
        phrases: list[list[str]] = [[]]
        for word in words:
            if word in ENDS:
                phrases.append([])
            else:
                phrases[-1].append(word)
        for phrase in phrases:
            while phrase and phrase[-1] in self.others and not self.noun_at_the_end(phrase):
                phrase.pop()
            if phrase:
                return self.noun_at_the_end(phrase)
        return None

    def noun_at_the_end(self, phrase: list[str]) -> str | None:
        """The longest known noun that a phrase ends with, in the singular or with an s."""
        for length in range(min(self.longest, len(phrase)), 0, -1):
            ending = " ".join(phrase[-length:])
            for candidate in (ending, ending.removesuffix("s")):
                if candidate in self.nouns:
                    return candidate
        return None
