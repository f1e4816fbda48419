"""ASD, SDS and CSD side by side: the props preset with each loss, equal steps, several seeds, one table.

    python benchmarks/losses.py --steps 1200 --seeds 0 1 --out runs/losses

A variant that is finished is not run again; an interrupted one is resumed. The table goes to OUT/losses.md.

Matched effective guidance: in units of x_0 ASD pulls by (x - x0_guided) - k (x - x0_later) with
k = alpha(t') sigma(t) / (sigma(t') alpha(t)) < 1. Its pull towards the text's mean has weight 1 - k, guidance keeps its
own, so guidance s acts like 1 + (s - 1) / (1 - k) does in SDS. The last line of the table has the preset's values.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import torch

from scaledreamer.model.library import load_generator
from scaledreamer.training.config import DistillRun, load_preset
from scaledreamer.training.evaluation.report import evaluate
from scaledreamer.training.losses import ASDConfig
from scaledreamer.training.priors.process import Cosine

COLUMNS = ("volumetric_iou", "silhouette_iou", "color_error", "shape_r1", "color_r1")


def constant(value: float) -> str:
    """A schedule that stands still, as an override."""
    return f"{{knots: [[0, {value}]]}}"


def of_kind(kind: str, guidance: str) -> list[str]:
    """Overrides that put another loss in the place of ASD."""
    loss = f"{{kind: {kind}, guidance: {guidance}, weight: x0, clamp_x0: 1.05}}"
    return [f"distill.loss={loss}"]


VARIANTS: dict[str, list[str]] = {
    "asd": [],
    "asd guidance 1.3": [f"distill.loss.guidance={constant(1.3)}"],
    "asd guidance 3": [f"distill.loss.guidance={constant(3.0)}"],
    "sds guidance 1": of_kind("sds", "1.0"),
    "sds guidance 1.5": of_kind("sds", "1.5"),
    "sds guidance 3": of_kind("sds", "3.0"),
    "csd guidance 1": of_kind("csd", "1.0"),
    "csd guidance 0.3": of_kind("csd", "0.3"),
}


def effective(run: DistillRun, draws: int = 20_000) -> dict[str, float]:
    """Mean effective guidance of an ASD run at its start, middle and end."""
    process, loss, times = Cosine(), run.distill.loss, run.distill.times
    assert isinstance(loss, ASDConfig)
    found = {}
    for name, step in (("start", 0), ("middle", 50), ("end", 100)):
        rng = torch.Generator().manual_seed(0)
        t = process.draw(times.t_min.at(step, 100), times.t_max.at(step, 100), draws, rng)
        later = process.shift(t, loss.shift_ratio.at(step, 100), loss.shift_from or 0.0, rng)
        k = process.alpha(later) * process.sigma(t) / (process.sigma(later) * process.alpha(t))
        found[name] = 1 + (loss.guidance.at(step, 100) - 1) / (1 - float(k.mean()))
    return found


def train(name: str, overrides: list[str], folder: Path, common: list[str]) -> None:
    """Run or resume one variant."""
    if (folder / "generator.safetensors").exists():
        return
    command = [sys.executable, "-c", "from scaledreamer.training.cli import main; main()"]
    if (folder / "checkpoint.safetensors").exists():
        command += ["--resume", str(folder)]
    else:
        sets = [part for override in [*overrides, *common] for part in ("--set", override)]
        command += ["props-triplane", *sets, "--out", str(folder)]
    print(f"== {name}: {folder}", flush=True)
    subprocess.run(command, check=True)


def main() -> None:
    """Run what is asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--limit", type=int, default=24, help="evaluated prompts of each split")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="for every variant")
    parser.add_argument("--out", type=Path, default=Path("runs/losses"))
    options = parser.parse_args()
    lines = ["| loss | seed | split | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 3) + "|"]
    for name in options.only:
        for seed in options.seeds:
            folder = options.out / f"{name.replace(' ', '-')}-seed{seed}"
            common = [f"loop.steps={options.steps}", f"loop.seed={seed}", *options.overrides]
            train(name, VARIANTS[name], folder, common)
            if not (folder / "evaluation" / "metrics.json").exists():
                generator = load_generator(folder / "generator.safetensors")
                evaluate(generator, folder / "evaluation", options.limit, references=False)
            results = json.loads((folder / "evaluation" / "metrics.json").read_text())["generator"]
            for split in ("seen", "pairs"):
                row = results[split]["all"]
                lines.append(f"| {name} | {seed} | {split} | " + " | ".join(f"{row[c]:.3f}" for c in COLUMNS) + " |")
    run = load_preset("props-triplane", options.overrides)
    assert isinstance(run, DistillRun)
    lines += ["", f"Effective guidance of `asd` in SDS's terms: {effective(run)}"]
    (options.out / "losses.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
