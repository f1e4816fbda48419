"""The props test: every split, per kind and in all, with reference rows that say what the numbers mean."""

import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree
from torch import Tensor

from scaledreamer.model.fields.base import Field
from scaledreamer.model.text import TextEncoder
from scaledreamer.training.evaluation.metrics import Measured, color_error, colors_at, compare, measure
from scaledreamer.training.props.grammar import canonical, say, wordings
from scaledreamer.training.props.shapes import paints, truth
from scaledreamer.training.props.words import MATERIALS, SIZES
from scaledreamer.training.props.world import Prop, Split, World

Row = dict[str, float]
WORDINGS_EACH = 2  # held-out wordings a plain seen prop


@dataclass(frozen=True)
class Case:
    """One prompt of the test and what it should look like."""

    prompt: str
    prop: Prop
    split: Split


def cases(world: World, split: Split) -> list[Case]:
    """The prompts of a split in a fixed order.

    `wordings` says seen props as training never does; `materials` asks for seen ones of a material, every other with a
    second colour, where that is visible.
    """
    if split == "materials":
        return dressed(world)
    if split != "wordings":
        return [Case(canonical(prop), prop, split) for prop in world.props() if world.split_of(prop) == split]
    chosen = []
    for prop in (prop for prop in world.training_props() if prop.size in ("plain", "small")):
        said = sorted(
            (say(prop, w) for w in wordings(world, prop, held_out=True)), key=lambda text: zlib.crc32(text.encode())
        )
        chosen += [Case(prompt, prop, split) for prompt in said[:WORDINGS_EACH]]
    return chosen


def dressed(world: World) -> list[Case]:
    """A seen plain prop of every kind and colour, of one material after the other."""
    found = []
    plain = [prop for prop in world.training_props() if prop.size == "plain"] if world.visible else []
    for number, prop in enumerate(plain):
        others = [color for color in world.colors if color != prop.color]
        second = others[number % len(others)] if number % 2 else None
        material = list(MATERIALS)[1 + number // 2 % (len(MATERIALS) - 1)]
        one = replace(prop, material=material, second=second)
        found.append(Case(canonical(one), one, "materials"))
    return found


@cache
def true_shape(kind: str, size: str) -> Measured:
    """The truth of a kind and size with mid-range proportions, measured once for all its colours (those of red)."""
    return measure(truth(Prop(kind, "red", size)))


@cache
def true_measures(prop: Prop) -> Measured:
    """The same in the colours of a prop."""
    shape = true_shape(prop.kind, prop.size)
    return replace(shape, colors=colors_at(truth(prop), shape.points))


@cache
def true_shapes(world: World) -> tuple[list[tuple[str, str]], Float[Tensor, "K N"]]:
    """Every kind and size, and their occupied cells as ones."""
    names = [(kind, size) for kind in world.kinds for size in SIZES]
    return names, torch.stack([true_shape(kind, size).occupied.flatten().float() for kind, size in names])


def nearest_shape(found: Measured, world: World) -> tuple[str, str]:
    """Kind and size of the true shape whose occupied cells have the largest IoU with what was found."""
    names, shapes = true_shapes(world)
    occupied = found.occupied.flatten().float()
    both = shapes @ occupied
    either = shapes.sum(1) + occupied.sum() - both
    return names[int((both / either).argmax())]


@cache
def true_views(world: World) -> Bool[Tensor, "K V H W"]:
    """The silhouettes of every kind and size, in the order of `true_shapes`."""
    return torch.stack([true_shape(kind, size).silhouette for kind, size in true_shapes(world)[0]])


def views_found(found: Measured, prop: Prop, world: World) -> float:
    """R@1 as the paper takes it, with true silhouettes for captions: the share of views that fit their own shape best.

    Each view of what was found is compared with the same view of every true kind and size by IoU.
    """
    views, own = true_views(world), true_shapes(world)[0].index((prop.kind, prop.size))
    both = (views & found.silhouette).flatten(2).sum(2)
    either = (views | found.silhouette).flatten(2).sum(2)
    best, which = (both / either.clamp(min=1)).max(0)
    return float(((which == own) & (best > 0)).float().mean())


def color_found(found: Measured, prop: Prop, world: World) -> float:
    """1 where, of all main colours on the true shape in its material, the one that was asked for fits best."""
    if len(found.points) == 0:
        return 0.0
    plain = true_measures(
        replace(prop, material="any")
    )  # where the main colour is: a material leaves no paint as it is
    main = np.abs(plain.colors - paints(prop)[0].numpy()).max(1) < 1e-3
    distance, nearest = cKDTree(plain.points[main]).query(found.points)
    near = distance < 0.1
    errors = {}
    for color in world.colors:
        wanted = true_measures(replace(prop, color=color)).colors[main][nearest[near]]
        errors[color] = color_error((found.colors[near], wanted, distance[near])) if near.any() else 1.0
    return float(min(errors, key=lambda color: errors[color]) == prop.color)


def score(found: Measured, prop: Prop, world: World) -> Row:
    """Every number of one answer: distances, and whether the nearest of all truths is the one that was asked for."""
    kind, size = nearest_shape(found, world) if found.occupied.any() else ("", "")
    return compare(found, true_measures(prop)) | {
        "kind_r1": float(kind == prop.kind),
        "shape_r1": float((kind, size) == (prop.kind, prop.size)),
        "view_r1": views_found(found, prop, world),
        "color_r1": color_found(found, prop, world),
    }


Answer = Callable[[Case], Field]
Look = Callable[[Case], Measured]


def measured(answer: Answer) -> Look:
    """What the answers look like."""
    return lambda case: measure(answer(case))


def random_proportions(case: Case) -> Measured:
    """Reference: the right prop with random proportions, as the prior saw it."""
    rng = torch.Generator().manual_seed(zlib.crc32(case.prompt.encode()))
    return measure(truth(case.prop, rng))


def nearest_seen(encoder: TextEncoder, world: World) -> Look:
    """Reference: the true shape of the training prompt that is nearest to the asked one as text."""
    seen = world.training_props()
    table = encoder.encode([canonical(prop) for prop in seen]).pooled

    def look(case: Case) -> Measured:
        return true_measures(seen[int((table @ encoder.encode([case.prompt]).pooled[0]).argmax())])

    return look


def run(
    look: Look, chosen: Iterable[Case], world: World, progress: Callable[[int], None] | None = None
) -> list[tuple[Case, Row]]:
    """Score every case, as many beside each other as PyTorch may use threads: one case alone keeps one core busy."""
    some, rows = list(chosen), []

    def scored(case: Case) -> Row:
        return score(look(case), case.prop, world)

    with ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for case, row in zip(some, pool.map(scored, some), strict=True):
            rows.append((case, row))
            if progress:
                progress(len(rows))
    return rows


def summarize(rows: list[tuple[Case, Row]]) -> dict[str, Row | dict[str, Row]]:
    """Means over all cases and for each kind."""

    def mean(some: list[Row]) -> Row:
        return {name: round(float(np.mean([row[name] for row in some])), 4) for name in some[0]} | {"cases": len(some)}

    kinds: dict[str, list[Row]] = {}
    for case, row in rows:
        kinds.setdefault(case.prop.kind, []).append(row)
    return {"all": mean([row for _, row in rows]), "kinds": {kind: mean(some) for kind, some in kinds.items()}}
