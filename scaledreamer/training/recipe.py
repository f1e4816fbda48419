"""The default model from nothing but this source: its prior and the generator that it teaches, each with a last stage.

    python -m scaledreamer.training.recipe --out runs/default-model       # hours a stage are printed

Each stage is an ordinary run of `scaledreamer-train`; stopped in whatever way, the recipe goes on where it was. OUT
gets the two files of the default model, whose cards say what they were made from, what they reach and what they cannot
do, and the evaluation that the numbers are from.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scaledreamer.errors import TrainingError
from scaledreamer.model import checkpoint
from scaledreamer.model.library import load_generator
from scaledreamer.model.shelf import read_header
from scaledreamer.training import checkpoints
from scaledreamer.training.evaluation.report import evaluate, world_of


@dataclass(frozen=True)
class Stage:
    """One preset, the file that its run ends with, what that is called among the shipped weights (if it ships), and
    what its card says beside what the run knows of itself.
    """

    preset: str
    made: str
    kind: str
    shipped: str = ""
    data: str = ""
    limits: str = ""


CONTRAST = 4.0  # of the shipped generator's colours, twice what training has: where borders vary, distillation hedges
FIRST_PRIOR = Stage("props-wide-prior", "props-prior.safetensors", "props-prior")
PRIOR = Stage(
    "props-wide-prior-late", "props-prior.safetensors", "props-prior", "props-prior.safetensors",
    data="our own procedural props: 35 kinds in four sizes and twelve colours, materials and second colours, random "
    "proportions; two colours a kind, 19 kinds in a size, three kinds and some wordings are held out",
    limits="knows nothing but these props, in pictures of 64 x 64 from four sides 90 degrees apart, elevation -10 to "
    "60 degrees, distance 3, field of view 40 degrees",
)  # fmt: skip
SHAPES = Stage("props-wide", "generator.safetensors", "generator")
GENERATOR = Stage(
    "props-wide-smooth", "generator.safetensors", "generator", "props.safetensors",
    data="prompts of the same props, 16 wordings each, none of those held out; no shape and no picture reaches "
    "the generator, which learns from the prior alone",
    limits="makes the things that `vocabulary` names and answers others with a warning; one thing a prompt; parts "
    "thinner than 0.04 of a box of 2 may break or blur; small holes (a donut's) and hollows (a bucket, a shelf) "
    "are filled; writing, faces and patterns are beyond it",
)  # fmt: skip


def run(stage: Stage, folder: Path, overrides: Sequence[str] = ()) -> Path:
    """Begin a stage, or go on with it; what is finished stays. The path of what it made.

    Raises TrainingError where the run ended without it: called again, it goes on.
    """
    made = folder / stage.made
    if not made.exists():
        begun = checkpoints.exists(folder)
        command = [sys.executable, "-m", "scaledreamer.training.cli"]
        command += ["--resume", str(folder)] if begun else [stage.preset, "--out", str(folder)]
        command += [part for override in overrides for part in ("--set", override)]
        code = subprocess.run(command).returncode
        if code or not made.exists():
            raise TrainingError(f"{stage.preset} stopped with code {code}; the same command goes on from {folder}")
    card = read_header(made, stage.kind)["card"]
    print(f"{stage.preset}: {card['steps']} steps, {card['wall_hours']} h, {card['core_hours']} core-hours: {made}")
    return made


def before(made: Path, stage: Stage) -> dict[str, Any]:
    """What the card of a later stage says of the one that it began from."""
    card = read_header(made, stage.kind)["card"]
    return {key: card[key] for key in ("command", "steps", "wall_hours", "core_hours")}


def with_card(made: Path, stage: Stage, out: Path, **facts: Any) -> None:
    """Write a stage's file with more on its card, a generator's with the contrast that ships."""
    header = read_header(made, stage.kind)
    header["card"] |= {"data": stage.data, "limits": stage.limits, **facts}
    if stage.kind == "generator":
        header["config"]["decoder"]["contrast"] = CONTRAST
    checkpoint.write(out, stage.kind, checkpoint.read_tensors(made), header)
    print(f"wrote {out}")


def main() -> None:
    """All stages, what the generator reaches, and both files as the default model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs' folders are")
    parser.add_argument("--out", type=Path, default=Path("runs/default-model"), help="folder for what is made")
    parser.add_argument("--limit", type=int, help="evaluated prompts of each split; all if left out")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=value", help="for all")
    options = parser.parse_args()

    def made(stage: Stage, *overrides: str) -> Path:
        return run(stage, options.runs / stage.preset, [*options.overrides, *overrides])

    first_prior = made(FIRST_PRIOR)
    prior = made(PRIOR, f"loop.start={first_prior}")
    taught_by = f"prior.path={prior}"
    shapes = made(SHAPES, taught_by)
    generator = made(GENERATOR, taught_by, f"loop.start={shapes}")
    options.out.mkdir(parents=True, exist_ok=True)
    with_card(prior, PRIOR, options.out / PRIOR.shipped, begun_from=before(first_prior, FIRST_PRIOR))
    shipped = options.out / GENERATOR.shipped
    with_card(generator, GENERATOR, shipped, begun_from=before(shapes, SHAPES))
    world = world_of(read_header(shipped, GENERATOR.kind)["card"])
    torch.set_num_threads(os.cpu_count() or 1)  # so many prompts beside each other
    found = evaluate(load_generator(shipped), options.out / "evaluation", options.limit, references=False, world=world)
    reached = {split: summary["all"] for split, summary in found["generator"].items()}
    print(json.dumps(reached))
    with_card(generator, GENERATOR, shipped, begun_from=before(shapes, SHAPES), metrics=reached)


if __name__ == "__main__":
    main()
