"""Quality against the size of the corpus: one architecture, equal steps, 80 to 100,000 prompts, three losses.

    python benchmarks/scale.py --search --steps 300     # each loss at several guidances, 1,000 prompts
    python benchmarks/scale.py --steps 1000             # each at its best, every corpus; a table and a plot

Runs of one process and four prompts a step with the prior of props-wide, pictures of 32 x 32, as many beside each other
as `--jobs` says. A run that is finished is not made again; an interrupted one is resumed. A corpus begins with the
smaller one: the first 80 prompts are in all of them. OUT gets search.md, or scale.md, scale.json and scale.png.
"""

import argparse
import itertools
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from trainings import train_all

from scaledreamer.model.library import load_generator
from scaledreamer.model.text import MiniLM
from scaledreamer.training.evaluation.report import answers_of, spread
from scaledreamer.training.evaluation.suite import Case, Row, cases, measured, run, summarize
from scaledreamer.training.props.grammar import canonical, prompts_in_turn
from scaledreamer.training.props.world import WIDE, Split

CORPORA = (80, 1_000, 10_000, 100_000)
WORDINGS = 96  # a prop, so that there are 100,000
COMMON = [
    "loop.processes=1", "loop.ema=0.98", "distill.nodes=24", "distill.pixels=32", "distill.embeddings=null",
    f"distill.corpus.wordings={WORDINGS}",
]  # fmt: skip
SPLITS: tuple[Split, ...] = ("seen", "pairs", "sizes", "wordings", "materials")
COLUMNS = ("silhouette_iou", "volumetric_iou", "color_error", "kind_r1", "color_r1")


def of_kind(kind: str, guidance: float) -> list[str]:
    """Overrides that put another loss in the place of the preset's."""
    return [f"distill.loss={{kind: {kind}, guidance: {guidance}, weight: x0, clamp_x0: 1.05}}"]


SEARCH: dict[str, list[str]] = {
    "asd annealed": [],
    "asd 1": ["distill.loss.guidance=1.0"],
    "asd 2": ["distill.loss.guidance=2.0"],
    "asd 4": ["distill.loss.guidance=4.0"],
    "sds 1": of_kind("sds", 1.0),
    "sds 2": of_kind("sds", 2.0),
    "sds 5": of_kind("sds", 5.0),
    "sds 10": of_kind("sds", 10.0),
    "vsd 1": of_kind("vsd", 1.0),
    "vsd 2": of_kind("vsd", 2.0),
    "vsd 5": of_kind("vsd", 5.0),
}
BEST = ("asd 2", "sds 5", "vsd 2")  # of each loss in the search, by silhouette IoU of seen and pairs


def common_cases() -> list[Case]:
    """The prompts of the smallest corpus, which are in every other as well."""
    props = {canonical(prop): prop for prop in WIDE.training_props()}
    first = itertools.islice(prompts_in_turn(WIDE, 1), CORPORA[0])
    return [Case(prompt, props[prompt], "seen") for prompt in first]


def scores(folder: Path, limit: int) -> dict[str, Row]:
    """Of the common prompts and of each split, read from scores.json once they are there."""
    path = folder / f"scores-{limit}.json"
    if not path.exists():
        answer = measured(answers_of(load_generator(folder / "generator.safetensors"), MiniLM()))
        asked = {"common": common_cases()} | {split: cases(WIDE, split) for split in SPLITS}
        found = {name: summarize(run(answer, spread(some, limit), WIDE))["all"] for name, some in asked.items()}
        path.write_text(json.dumps(found, indent=1) + "\n")
    told: dict[str, Row] = json.loads(path.read_text())
    return told


def table(rows: dict[str, dict[str, Row]]) -> str:
    """A line a run and set of prompts."""
    lines = ["| run | prompts | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, found in rows.items():
        lines += [
            f"| {name} | {of} | " + " | ".join(f"{row[c]:.3f}" for c in COLUMNS) + " |" for of, row in found.items()
        ]
    return "\n".join(lines) + "\n"


def plot(rows: dict[str, dict[str, Row]], path: Path) -> None:
    """Silhouette IoU and colour error against the corpus, a panel a set of prompts, a line a loss."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = ("common", "seen", "pairs", "wordings")
    figure, panels = pyplot.subplots(2, len(shown), figsize=(3.4 * len(shown), 5.6), sharey="row", sharex=True)
    for line, number in zip(panels, ("silhouette_iou", "color_error"), strict=True):
        for panel, split in zip(line, shown, strict=True):
            for loss in BEST:
                panel.plot(CORPORA, [rows[f"{loss}, {size}"][split][number] for size in CORPORA], "o-", label=loss)
            panel.set_xscale("log")
            panel.grid(alpha=0.3)
            panel.set_title(f"{split}: {number}", fontsize=9)
    panels[0][0].legend(fontsize=8)
    for panel in panels[1]:
        panel.set_xlabel("prompts trained on")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main() -> None:
    """Run what is asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", action="store_true", help="each loss at several guidances, 1,000 prompts")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2, help="runs beside each other")
    parser.add_argument("--limit", type=int, default=40, help="evaluated prompts of each set")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="for every run")
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    options = parser.parse_args()
    common = [*COMMON, f"loop.steps={options.steps}", *options.overrides]
    if options.search:
        chosen = {f"{name}, 1000": (name, 1000) for name in SEARCH}
    else:
        chosen = {f"{name}, {size}": (name, size) for name in BEST for size in CORPORA}
    folders = {
        title: options.out / f"{options.steps}-{name.replace(' ', '-')}-{size}"
        for title, (name, size) in chosen.items()
    }
    asked = {
        folders[title]: [*SEARCH[name], *common, f"distill.corpus.most={size}"]
        for title, (name, size) in chosen.items()
    }
    train_all("props-wide", asked, options.jobs)
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        found = pool.map(scores, folders.values(), [options.limit] * len(folders))
        rows = dict(zip(folders, found, strict=True))
    (options.out / ("search.md" if options.search else "scale.md")).write_text(table(rows))
    print(table(rows))
    if not options.search:
        (options.out / "scale.json").write_text(json.dumps(rows, indent=1) + "\n")
        plot(rows, options.out / "scale.png")


if __name__ == "__main__":
    main()
