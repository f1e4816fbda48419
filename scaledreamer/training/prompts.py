"""What the generator is trained on: a corpus of prompts, as text and nothing else, and the batch of a step."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, assert_never

import torch
from pydantic import Field, PositiveInt

from scaledreamer.config import Config
from scaledreamer.errors import ConfigError
from scaledreamer.training.parallel import Rank
from scaledreamer.training.prompts_files import Split, read_json_lines, read_json_split, read_lines
from scaledreamer.training.props.grammar import prompts_in_turn, training_prompts
from scaledreamer.training.props.world import WORLDS, WorldName


class PropsCorpus(Config):
    """The grammar of the props world without what is held out."""

    kind: Literal["props"] = "props"
    world: WorldName = "first"
    wordings: PositiveInt = 16  # prompts a prop, the canonical one among them
    most: PositiveInt | None = None  # so many in all, spread over the props: the first of a larger corpus


class ListCorpus(Config):
    """A few prompts, written out."""

    kind: Literal["list"] = "list"
    prompts: Annotated[tuple[str, ...], Field(min_length=1)]


class FileCorpus(Config):
    """A text file with one prompt a line."""

    kind: Literal["file"] = "file"
    path: Path


class JsonLinesCorpus(Config):
    """A file with one JSON object a line, the prompt under "prompt"."""

    kind: Literal["jsonl"] = "jsonl"
    path: Path


class JsonCorpus(Config):
    """One split of an official prompt library: {"train": [...], "val": [...], "test": [...]} of strings."""

    kind: Literal["json"] = "json"
    path: Path
    split: Split = "train"


AnyCorpus = PropsCorpus | ListCorpus | FileCorpus | JsonLinesCorpus | JsonCorpus
CorpusConfig = Annotated[AnyCorpus, Field(discriminator="kind")]


def stream_corpus(config: AnyCorpus) -> Iterator[str]:
    """The prompts in the order of the file, repetitions included; the file is never in memory as a whole."""
    match config:
        case PropsCorpus(world=world, wordings=wordings, most=None):
            yield from training_prompts(WORLDS[world], wordings)
        case PropsCorpus(world=world, wordings=wordings, most=most):
            yield from itertools.islice(prompts_in_turn(WORLDS[world], wordings), most)
        case ListCorpus(prompts=prompts):
            yield from prompts
        case FileCorpus(path=path):
            yield from read_lines(path)
        case JsonLinesCorpus(path=path):
            yield from read_json_lines(path)
        case JsonCorpus(path=path, split=split):
            yield from read_json_split(path, split)
        case _:
            assert_never(config)


def read_corpus(config: AnyCorpus) -> list[str]:
    """Every distinct prompt once, in order of first appearance; a million take about 150 MB.

    The official libraries repeat some prompts (DL17k: 17,241 of which 13,551 distinct) and so draw them more often;
    here each prompt is drawn equally often.
    """
    prompts = list(dict.fromkeys(stream_corpus(config)))
    if not prompts:
        raise ConfigError(f"corpus: {config!r} holds no prompt; give at least one")
    return prompts


def draw_prompts(corpus: Sequence[str], count: int, rank: Rank, rng: torch.Generator) -> list[str]:
    """The batch of one step of one process, without replacement where its share of the corpus is large enough.

    Processes share the corpus out as officially, each its own corpus[index::count], so that no prompt is twice in the
    batch of all processes. The batch depends on `rng` alone, which the loop makes from (seed, process, step).
    """
    mine = range(rank.index, len(corpus), rank.count) or range(len(corpus))  # more processes than prompts: all to each
    if count > len(mine):
        return [corpus[mine[place]] for place in torch.randint(len(mine), (count,), generator=rng).tolist()]
    places: dict[int, None] = {}
    while len(places) < count:
        places |= dict.fromkeys(torch.randint(len(mine), (count - len(places),), generator=rng).tolist())
    return [corpus[mine[place]] for place in places]
