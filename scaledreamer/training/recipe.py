"""The default model from nothing but this source: its prior, then the generator that the prior teaches.

    python -m scaledreamer.training.recipe                # into runs/, hours a stage are printed

Each stage is an ordinary run of `scaledreamer-train`; stopped in whatever way, the recipe goes on where it was.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaledreamer.errors import TrainingError
from scaledreamer.model.shelf import read_header
from scaledreamer.training import checkpoints


@dataclass(frozen=True)
class Stage:
    """One preset, the file that its run ends with, and what that is called among the shipped weights."""

    preset: str
    made: str
    kind: str
    shipped: str


PRIOR = Stage("props-wide-prior", "props-prior.safetensors", "props-prior", "props-prior.safetensors")
GENERATOR = Stage("props-wide", "generator.safetensors", "generator", "props.safetensors")


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


def main() -> None:
    """Both stages, and their files as the default model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs' folders are")
    parser.add_argument("--weights", type=Path, help="folder for the two files of the default model")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=value", help="for both")
    options = parser.parse_args()
    prior = run(PRIOR, options.runs / PRIOR.preset, options.overrides)
    taught_by = f"prior.path={prior}"
    generator = run(GENERATOR, options.runs / GENERATOR.preset, [*options.overrides, taught_by])
    if options.weights is not None:
        options.weights.mkdir(parents=True, exist_ok=True)
        for stage, made in ((PRIOR, prior), (GENERATOR, generator)):
            shutil.copyfile(made, options.weights / stage.shipped)
            print(f"wrote {options.weights / stage.shipped}")


if __name__ == "__main__":
    main()
