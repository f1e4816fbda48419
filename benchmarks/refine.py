"""What `scaledreamer refine` is worth: the default model's answers before and after, against the true props.

    python benchmarks/refine.py                         # 20 prompts, about half an hour of two cores
    python benchmarks/refine.py --prompts 4 --jobs 1
    python benchmarks/refine.py --wordings --prompts 120   # only where it may begin: the mean of six wordings

Evenly spread prompts, as many of each split: the training set, held-out pairs, sizes and materials, and kinds that no
training has seen. Each is refined in a process of one thread with the recipe that the command line takes. The judge
knows the prior and nothing of the truth; the truth is only looked at here. CPU-seconds are those of the refinement,
without loading and without the asset that would follow.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import torch

from scaledreamer import TextTo3D
from scaledreamer.allocator import keep_freed_memory
from scaledreamer.cli_refine import read_recipe
from scaledreamer.training.evaluation.metrics import measure
from scaledreamer.training.evaluation.report import spread
from scaledreamer.training.evaluation.suite import Case, Row, cases, score
from scaledreamer.training.priors.base import Prior
from scaledreamer.training.priors.build import build_prior
from scaledreamer.training.props.world import WIDE, Split
from scaledreamer.training.refine import refine

RECIPE = "props-refine"
SHOWN = {"silhouette_iou": "silhouette IoU", "volumetric_iou": "volumetric IoU", "color_error": "colour error"}
LIMIT = 180  # CPU-seconds
SPLITS: tuple[Split, ...] = ("seen", "pairs", "sizes", "materials", "kinds")


@cache
def tools() -> tuple[TextTo3D, Prior]:
    """Loaded once a process; like the command, it keeps freed memory."""
    torch.set_num_threads(1)
    keep_freed_memory()
    return TextTo3D.load(), build_prior(read_recipe(RECIPE, [])[0], "cpu")[0]


def once(case: Case, overrides: list[str]) -> tuple[Case, Row, Row, dict[str, float]]:
    pipe, prior = tools()
    _, config = read_recipe(RECIPE, overrides)
    field = pipe.fields([case.prompt])
    began = time.process_time()
    refined = refine(field, case.prompt, prior, config, also=[pipe.in_other_words(case.prompt)])
    seconds = time.process_time() - began
    facts = {
        "cpu": seconds, "steps": refined.checks[-1].step, "kept": refined.kept.step,
        "gain": 1 - refined.kept.score / refined.checks[0].score,
    }  # fmt: skip
    return case, score(measure(field), case.prop, WIDE), score(measure(refined.field), case.prop, WIDE), facts


def worded(case: Case) -> tuple[Case, Row, Row, dict[str, float]]:
    """The answer to a prompt, and the mean of those to six wordings of it."""
    pipe, _ = tools()
    fields = pipe.fields([case.prompt]), pipe.in_other_words(case.prompt)
    before, after = (score(measure(field), case.prop, WIDE) for field in fields)
    return case, before, after, {}


def changes(results: list[tuple[Case, Row, Row, dict[str, float]]]) -> Iterator[str]:
    """A row a split and one for all: means before and after, and the standard error of their difference."""
    yield "| prompts | " + " | ".join(SHOWN.values()) + " |\n|---|" + "---|" * len(SHOWN)
    for split in (*SPLITS, "all"):
        cells = []
        some = [(before, after) for case, before, after, _ in results if split in (case.split, "all")]
        for name in SHOWN:
            first, then = ([row[name] for row in side] for side in zip(*some, strict=True))
            error = statistics.stdev(b - a for a, b in zip(first, then, strict=True)) / len(some) ** 0.5
            cells.append(f"{statistics.fmean(first):.4f} → {statistics.fmean(then):.4f} (± {error:.4f})")
        yield f"| {len(some)} {split} | " + " | ".join(cells) + " |"


def lines(results: list[tuple[Case, Row, Row, dict[str, float]]]) -> Iterator[str]:
    yield "| prompt | steps, kept | CPU-s | judge's gain | " + " | ".join(SHOWN.values()) + " |"
    yield "|---|---|---|---|" + "---|" * len(SHOWN)
    for case, before, after, facts in results:
        numbers = " | ".join(f"{before[name]:.3f} → {after[name]:.3f}" for name in SHOWN)
        kept = f"{facts['steps']:.0f}, {facts['kept']:.0f}"
        yield f"| {case.prompt} | {kept} | {facts['cpu']:.0f} | {facts['gain']:.1%} | {numbers} |"
    for split in SPLITS:
        if own := [result for result in results if result[0].split == split]:
            yield f"| *mean of {split}* | | | | {means(own)} |"
    numbers = means(results)
    spent = [facts["cpu"] for *_, facts in results]
    yield f"| **mean** | | **{statistics.fmean(spent):.0f}** (most {max(spent):.0f}; target {LIMIT}) | | {numbers} |"


def means(results: list[tuple[Case, Row, Row, dict[str, float]]]) -> str:
    """A cell a number, before and after."""
    mean = [[statistics.fmean(result[side][name] for result in results) for name in SHOWN] for side in (1, 2)]
    return " | ".join(f"{before:.3f} → {after:.3f}" for before, after in zip(*mean, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--set", action="append", default=[], help="of the recipe: refine.steps=400")
    parser.add_argument("--wordings", action="store_true", help="measure the mean of six wordings, and refine nothing")
    given = parser.parse_args()
    chosen = [case for split in SPLITS for case in spread(cases(WIDE, split), max(1, given.prompts // len(SPLITS)))]
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}; {RECIPE} {given.set}\n")
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        if given.wordings:
            print("\n".join(changes(list(pool.map(worded, chosen)))))
            return
        results = list(pool.map(once, chosen, [given.set] * len(chosen)))
    print("\n".join(lines(results)))
    worse = [case.prompt for case, _, _, facts in results if facts["gain"] < 0]
    print(f"\nworse than they began by the judge that chooses: {worse or 'none'}")
    for name, label in SHOWN.items():
        better = sum((after[name] > before[name]) == (name != "color_error") for _, before, after, _ in results)
        print(f"{label}: better in {better} of {len(results)}")


if __name__ == "__main__":
    main()
