"""ASD, SDS and CSD side by side: the first world's preset with each loss, equal steps, several seeds, one table.

    python benchmarks/losses.py --search --steps 400 --seeds 0 --out runs/losses      # each loss at several guidances
    python benchmarks/losses.py --steps 400 --seeds 0 1 --out runs/losses             # the best and the matched

Runs of one process and four prompts a step, as many beside each other as `--jobs` says. A run that is finished is not
made again; an interrupted one is resumed. The tables go to OUT/search.md and OUT/losses.md.

Matched effective guidance: in units of x_0 ASD pulls by (x - x0_guided) - k (x - x0_later) with
k = alpha(t') sigma(t) / (sigma(t') alpha(t)) < 1. Its pull towards the text's mean has weight 1 - k, guidance keeps its
own, so guidance s acts like 1 + (s - 1) / (1 - k) does in SDS, and like (s - 1) / (1 - k) in CSD, which has no pull.
"""

import argparse
import json
from pathlib import Path

import torch
from trainings import train_all, train_first_prior

from scaledreamer.model.library import load_generator
from scaledreamer.training.config import DistillRun, load_preset
from scaledreamer.training.evaluation.report import evaluate
from scaledreamer.training.losses import ASDConfig
from scaledreamer.training.priors.process import Cosine
from scaledreamer.training.props.world import Split

SPLITS: tuple[Split, ...] = ("seen", "pairs")
COLUMNS = ("volumetric_iou", "silhouette_iou", "color_error", "shape_r1", "color_r1")


MOMENTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of a run, where the effective guidance is worked out


def effective() -> list[tuple[float, float]]:
    """(fraction of the run, mean effective guidance) of the preset's ASD."""
    run = load_preset("props-triplane", [])
    assert isinstance(run, DistillRun) and isinstance(run.distill.loss, ASDConfig)
    process, loss, times = Cosine(), run.distill.loss, run.distill.times
    found = []
    for moment in MOMENTS:
        progress, rng = (round(100 * moment), 100), torch.Generator().manual_seed(0)
        t = process.draw(times.t_min.at(*progress), times.t_max.at(*progress), 20_000, rng)
        later = process.shift(t, loss.shift_ratio.at(*progress), process.time(loss.shift_from or 0.0), rng)
        k = process.alpha(later) * process.sigma(t) / (process.sigma(later) * process.alpha(t))
        found.append((moment, 1 + (loss.guidance.at(*progress) - 1) / (1 - float(k.mean()))))
    return found


def schedule(knots: list[tuple[float, float]]) -> str:
    """A schedule as an override."""
    return f"{{knots: {[list(knot) for knot in knots]}}}"


def of_kind(kind: str, guidance: list[tuple[float, float]]) -> list[str]:
    """Overrides that put another loss in the place of ASD."""
    return [f"distill.loss={{kind: {kind}, guidance: {schedule(guidance)}, weight: x0, clamp_x0: 1.05}}"]


def asd_at(guidance: float) -> list[str]:
    """The preset's ASD at one guidance."""
    return [f"distill.loss.guidance={schedule([(0, guidance)])}"]


SEARCH: dict[str, list[str]] = {
    "asd annealed 2.2 to 1": [],
    "asd 1.3": asd_at(1.3),
    "asd 3": asd_at(3.0),
    "sds 1": of_kind("sds", [(0, 1.0)]),
    "sds 2": of_kind("sds", [(0, 2.0)]),
    "sds 5": of_kind("sds", [(0, 5.0)]),
    "csd 0.3": of_kind("csd", [(0, 0.3)]),
    "csd 1": of_kind("csd", [(0, 1.0)]),
    "csd 4": of_kind("csd", [(0, 4.0)]),
}
MATCHED: dict[str, list[str]] = {
    "sds matched": of_kind("sds", [(at, round(s, 2)) for at, s in effective()]),
    "csd matched": of_kind("csd", [(at, round(s - 1, 2)) for at, s in effective()]),
}
# The preset, which the matched ones match, and of SEARCH the best of each loss by silhouette IoU of the held-out pairs.
BEST = ("asd annealed 2.2 to 1", "asd 3", "sds 1", "csd 0.3")


def main() -> None:
    """Run what is asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", action="store_true", help="each loss at several guidances")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--jobs", type=int, default=2, help="runs beside each other")
    parser.add_argument("--limit", type=int, default=40, help="evaluated prompts of each split")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="for every variant")
    parser.add_argument("--out", type=Path, default=Path("runs/losses"))
    options = parser.parse_args()
    variants = SEARCH if options.search else {name: SEARCH[name] for name in BEST} | MATCHED
    runs = [
        (name, seed, options.out / f"{name.replace(' ', '-')}-seed{seed}")
        for name in variants
        for seed in options.seeds
    ]
    common = ["loop.processes=1", f"loop.steps={options.steps}", "loop.ema=0.98", *options.overrides]
    asked = {folder: [*variants[name], *common, f"loop.seed={seed}"] for name, seed, folder in runs}
    train_first_prior()
    train_all("props-triplane", asked, options.jobs)
    lines = ["| loss | seed | split | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 3) + "|"]
    for name, seed, folder in runs:
        if not (folder / "evaluation" / "metrics.json").exists():
            generator = load_generator(folder / "generator.safetensors")
            evaluate(generator, folder / "evaluation", options.limit, references=False, splits=SPLITS)
        results = json.loads((folder / "evaluation" / "metrics.json").read_text())["generator"]
        for split in SPLITS:
            row = results[split]["all"]
            lines.append(f"| {name} | {seed} | {split} | " + " | ".join(f"{row[c]:.3f}" for c in COLUMNS) + " |")
    told = ", ".join(f"{s:.1f} at {at:.0%}" for at, s in effective())
    lines += ["", f"Effective guidance of the annealed ASD in SDS's terms: {told} of the run."]
    path = options.out / ("search.md" if options.search else "losses.md")
    path.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
