"""Training runs that a benchmark compares: made once, resumed when they were stopped, several beside each other."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MADE = ("generator.safetensors", "props-prior.safetensors")


def train(preset: str, overrides: list[str], folder: Path) -> None:
    """Run or resume one variant in its own process; what is finished is not made again."""
    if any((folder / name).exists() for name in MADE):
        return
    command = [sys.executable, "-m", "scaledreamer.training.cli"]
    if (folder / "checkpoint.safetensors").exists():
        command += ["--resume", str(folder)]
    else:
        command += [preset, "--out", str(folder)]
        command += [part for override in overrides for part in ("--set", override)]
    print(f"== {folder}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("a") as output:
        subprocess.run(command, check=True, stdout=output, stderr=output)


def train_all(preset: str, runs: dict[Path, list[str]], jobs: int) -> None:
    """Every folder's run with its overrides, `jobs` at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(lambda folder: train(preset, runs[folder], folder), runs):
            pass


def train_first_prior() -> None:
    """The prior of the first world, where the presets of that world look for it; some four core-hours, once."""
    train("props-prior", [], Path("runs/props-prior"))
