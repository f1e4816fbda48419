"""The evaluation as files: metrics.json, a contact sheet beside the ground truth, and a page with both."""

import html
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scaledreamer.files import atomic_path
from scaledreamer.model.cameras import turntable
from scaledreamer.model.fields.base import Field
from scaledreamer.model.generators import Generator
from scaledreamer.model.images import sheet
from scaledreamer.model.rendering import LatticeConfig, render
from scaledreamer.model.text import MiniLM, TextEncoder
from scaledreamer.progress import Progress
from scaledreamer.training.evaluation.suite import (
    Answer,
    Case,
    cases,
    measured,
    nearest_seen,
    random_proportions,
    run,
    summarize,
)
from scaledreamer.training.props.shapes import truth
from scaledreamer.training.props.world import FIRST, WORLDS, Split, World

SPLITS: tuple[Split, ...] = ("seen", "pairs", "sizes", "wordings", "materials", "kinds")
ROW = 4  # cases beside each other on the sheet
LOOK = LatticeConfig(nodes=96, samples=128, sharpness=150.0)


@torch.no_grad()
def look(field: Field, views: int = 2, pixels: int = 64) -> Float[Tensor, "V 3 H W"]:
    """Shaded pictures over mid-grey from the front and the side."""
    camera = turntable(8, elevation=0.45)[torch.tensor([1, 3, 5, 7][:views])]
    return rearrange(render(field, camera, None, pixels, LOOK).rgb, "V H W C -> V C H W")


def contact_sheet(answer: Answer, chosen: list[Case], columns: int = ROW) -> Image.Image:
    """Answer and truth side by side, two views each."""
    scenes = [torch.cat([look(answer(case)), look(truth(case.prop))]) for case in chosen]
    return sheet(torch.stack(scenes), columns=columns, zoom=1)


def answers_of(generator: Generator, encoder: TextEncoder) -> Answer:
    """What a generator makes of a prompt; a stochastic one with the noise that serving has unless told otherwise."""

    @torch.no_grad()
    def answer(case: Case) -> Field:
        rng = torch.Generator().manual_seed(0) if generator.stochastic else None
        field: Field = generator(encoder.encode([case.prompt]), rng=rng)
        return field

    return answer


def evaluate(
    generator: Generator,
    out: Path,
    limit: int | None = None,
    references: bool = True,
    ceiling: Generator | None = None,
    splits: Sequence[Split] = SPLITS,
    encoder: TextEncoder | None = None,
    world: World = FIRST,
) -> dict[str, Any]:
    """Score a generator on every split and write metrics.json, contact-sheet.png, index.html and tables.md to `out`.

    `encoder` is the one that the generators read, MiniLM unless given. `limit` takes evenly spread cases of each split.
    The references are the truth with random proportions and the truth of the nearest seen prompt; and `ceiling`, the
    same network fitted to true pictures (preset props-wide-ceiling).
    """
    encoder = encoder or MiniLM()
    answers = answers_of(generator, encoder)
    looks = {"generator": measured(answers)}
    if ceiling is not None:
        looks["fitted to true pictures"] = measured(answers_of(ceiling, encoder))
    if references:
        looks |= {
            "truth with random proportions": random_proportions,
            "nearest seen prompt": nearest_seen(encoder, world),
        }
    chosen = {split: spread(found, limit) for split in splits if (found := cases(world, split))}
    total = sum(len(some) for some in chosen.values()) * len(looks)
    results: dict[str, Any] = {}
    done = 0
    with Progress(total) as bar:
        for name, reading in looks.items():
            for split, some in chosen.items():
                rows = run(reading, some, world, lambda number, done=done: bar.update(done + number, {}))  # type: ignore[misc]
                done += len(some)
                results.setdefault(name, {})[split] = summarize(rows)
    pictures = contact_sheet(answers, sheet_cases(chosen))
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "metrics.json") as partial:
        partial.write_text(json.dumps(results, indent=1) + "\n")
    with atomic_path(out / "contact-sheet.png") as partial:
        pictures.save(partial, format="PNG")
    for name, text in (("index.html", page(results)), ("tables.md", tables(results))):
        with atomic_path(out / name) as partial:
            partial.write_text(text)
    return results


def world_of(card: Mapping[str, Any]) -> World:
    """The world whose prompts a model learned from, by its card; the first where the card names none."""
    config = card.get("config", {})
    learned = config.get("distill", {}).get("corpus") or config.get("ceiling", {}).get("data") or {}
    return WORLDS[learned.get("world", "first")]


def spread(some: list[Case], limit: int | None) -> list[Case]:
    """At most `limit` cases, evenly spread."""
    if limit is None or limit >= len(some):
        return some
    return [some[index * len(some) // limit] for index in range(limit)]


def sheet_cases(chosen: dict[Split, list[Case]]) -> list[Case]:
    """For the picture: a row of four cases of every kind, of as many splits as there are."""
    shown = []
    for kind in dict.fromkeys(case.prop.kind for some in chosen.values() for case in some):
        own = [[case for case in some if case.prop.kind == kind] for some in chosen.values()]
        in_turn = [case for one_each in itertools.zip_longest(*own) for case in one_each if case is not None]
        shown += in_turn[:ROW]
    return shown


def means(results: dict[str, Any]) -> list[list[str]]:
    """A line for every row and split; the first is the head."""
    first = next(iter(results["generator"].values()))["all"]
    numbers = [name for name in first if name != "cases"]
    rows = [["row", "prompts", "cases", *map(in_words, numbers)]]
    for name, summaries in results.items():
        for split, summary in summaries.items():
            mean = summary["all"]
            rows.append([name, split, str(mean["cases"]), *(f"{mean[number]:.3f}" for number in numbers)])
    return rows


def by_kind(splits: dict[str, Any]) -> list[list[str]]:
    """A line for every kind, its splits beside each other; the first is the head."""
    shown = ("silhouette_iou", "volumetric_iou", "color_error", "shape_r1")
    kinds = [["kind: " + " / ".join(splits), *map(in_words, shown)]]
    for kind in dict.fromkeys(kind for summary in splits.values() for kind in summary["kinds"]):
        found = [summary["kinds"].get(kind) for summary in splits.values()]
        kinds.append([kind, *(" / ".join("-" if row is None else f"{row[n]:.2f}" for row in found) for n in shown)])
    return kinds


def in_words(number: str) -> str:
    """A metric's name for a heading."""
    return number.replace("_", " ").replace("iou", "IoU").replace("r1", "R@1")


def tables(results: dict[str, Any]) -> str:
    """Markdown for a document: every row of means, then the generator's splits by kind."""
    return markdown(means(results)) + "\n" + markdown(by_kind(results["generator"]))


def markdown(rows: list[list[str]]) -> str:
    """A table whose head is the first row."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]) + "\n"


def page(results: dict[str, Any]) -> str:
    """The same tables and the sheet, for a browser."""

    def in_html(rows: list[list[str]]) -> str:
        lines = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
        return f"<table><tr>{'</tr><tr>'.join(lines)}</tr></table>"

    return (
        "<!doctype html><meta charset=utf-8><title>ScaleDreamer evaluation</title>"
        "<style>body{font:14px sans-serif;margin:2em}td{padding:.2em .6em;text-align:right}"
        "td:first-child{text-align:left}tr:first-child{font-weight:bold}</style><h1>Props test</h1>"
        "<p>The sheet shows answer, answer, truth, truth from two sides.</p>"
        f"{in_html(means(results))}{in_html(by_kind(results['generator']))}"
        "<img src='contact-sheet.png' alt='answers beside the truth'>"
    )
