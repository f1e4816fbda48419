"""What an hour of training buys: the first world's preset, from nothing, against the model of the first release.

    python benchmarks/quality_per_hour.py --out runs/quality     # trains (goes on where it was), then compares
    python benchmarks/quality_per_hour.py --out runs/quality --limit 20

Machines differ from day to day, so the first release's hours are told twice: as its logs have them, and as the same
steps would take today, from steps of its recipe and of the preset that are taken in turn, one thread each. What must be
halved is the second. Its numbers and logs are in docs/evidence/quality-per-hour; both models answer the same prompts.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from trainings import train, train_first_prior

from scaledreamer.model.library import load_generator
from scaledreamer.training.cli import build_task
from scaledreamer.training.config import DistillRun, load_preset
from scaledreamer.training.evaluation.report import evaluate
from scaledreamer.training.loop import Trainer
from scaledreamer.training.parallel import Rank
from scaledreamer.training.props.world import Split
from scaledreamer.training.step import DistillTask

PRESET = "props-triplane"
EVIDENCE = Path(__file__).parents[1] / "docs" / "evidence" / "quality-per-hour"
SHOWN = {"silhouette_iou": "silhouette IoU", "shape_r1": "R@1", "volumetric_iou": "volumetric IoU"}
WANTED = ("silhouette_iou", "shape_r1")  # to be reached
SLACK = 0.0005  # numbers are told with three digits
SPLITS: tuple[Split, ...] = ("seen", "pairs")


def trainer(overrides: list[str]) -> Trainer:
    """The preset with overrides, one process."""
    run = load_preset(PRESET, ["loop.processes=1", *overrides])
    assert isinstance(run, DistillRun)
    made = Trainer(build_task(run), run.loop, Path(), Rank(), {})
    assert isinstance(made.task, DistillTask)
    made.task.steps = run.loop.steps
    return made


def cost(recipes: dict[str, tuple[list[str], dict[float, float]]], rounds: int) -> dict[str, float]:
    """CPU-seconds of a mean step of each recipe, one thread. A recipe is overrides and, of its run, which share is as
    dear as the step at which moment of the run; the steps of all are taken in turn.
    """
    torch.set_num_threads(1)
    made = {(name, moment): trainer(overrides) for name, (overrides, shares) in recipes.items() for moment in shares}
    times: dict[tuple[str, float], list[float]] = {key: [] for key in made}
    for _ in range(rounds + 2):  # two warm up
        for (name, moment), runner in made.items():
            runner.step = round(moment * runner.config.steps)
            began = time.process_time()
            runner.advance()
            times[name, moment].append(time.process_time() - began)
    return {
        name: sum(share * statistics.median(times[name, moment][2:]) for moment, share in shares.items())
        for name, (_, shares) in recipes.items()
    }


def logged_hours(logs: list[Path], processes: int) -> tuple[int, float]:
    """Steps and core-hours of a run in legs, from the last line of each leg's log."""
    last = [json.loads(log.read_text().splitlines()[-1]) for log in logs]
    return sum(row["step"] for row in last), sum(row["cpu_s"] for row in last) * processes / 3600


def told(results: dict[str, Any]) -> list[str]:
    """Every number that is shown, a column each."""
    return [f"{results[split]['all'][metric]:.3f}" for metric in SHOWN for split in SPLITS]


def short_of(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What was to be reached and was not."""
    missed = []
    for metric in WANTED:
        for split in SPLITS:
            have, want = (results[split]["all"][metric] for results in (found, wanted))
            if have < want - SLACK:
                missed.append(f"{SHOWN[metric]} ({split}) is {have:.3f} of {want:.3f}")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--rounds", type=int, default=8, help="steps of each recipe, to know what they cost today")
    parser.add_argument("--limit", type=int, help="evaluated prompts of each split; all if left out")
    given = parser.parse_args()
    first = json.loads((EVIDENCE / "first-release.json").read_text())
    train_first_prior()
    train(PRESET, [], given.out)
    generator = load_generator(given.out / "generator.safetensors")
    found = evaluate(generator, given.out / "evaluation", given.limit, references=False, splits=SPLITS)["generator"]

    run = load_preset(PRESET, [])
    assert isinstance(run, DistillRun)
    steps, hours = logged_hours([given.out / "metrics.jsonl"], run.loop.processes)
    first_steps, first_hours = logged_hours([EVIDENCE / name for name in first["logs"]], first["processes"])
    guided = next(at / 100 for at in range(101) if run.distill.loss.guidance.at(at, 100) == 1)
    dear = first["guided_share"]  # of its steps, that asked the empty prompt too
    each = cost(
        {"first": (first["recipe"], {0.05: dear, 0.8: 1 - dear}), "preset": ([], {0.02: guided, 0.8: 1 - guided})},
        given.rounds,
    )
    today = {
        "first": first_steps * each["first"] * first["processes"] / 3600,
        "preset": steps * each["preset"] * run.loop.processes / 3600,
    }
    head = [f"{name}, {split}" for name in SHOWN.values() for split in SPLITS]
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    print("\n| model | steps | core-hours, logged | core-hours, today | " + " | ".join(head) + " |")
    print("|---|---|---|---|" + "---|" * len(head))
    rows = (
        ("first release", first_steps, first_hours, today["first"], first["evaluation"]),
        ("this preset", steps, hours, today["preset"], found),
    )
    for name, count, logged, now, results in rows:
        print(f"| {name} | {count:,} | {logged:.2f} | {now:.2f} | " + " | ".join(told(results)) + " |")
    missed = short_of(found, first["evaluation"])
    print(f"\n{today['preset'] / today['first']:.2f} of the first release's hours (target 0.5)")
    print("; ".join(missed) if missed else "silhouette IoU and R@1 are reached")
    if given.limit is None:
        shutil.copy(given.out / "metrics.jsonl", EVIDENCE / "metrics.jsonl")


if __name__ == "__main__":
    main()
