"""What a training step costs, and on what it depends: CPU-seconds of the preset props-wide, one process, one thread.

    python benchmarks/step.py                            # three quarters of an hour, 3 GB in a scratch folder
    python benchmarks/step.py --corpus 100 100000        # one table alone
    python benchmarks/step.py --views --pixels --generator

Every row of a table is a run of its own that takes its steps in turn with the others, so that what the machine does
meanwhile meets all alike; the number is the median of `--rounds` steps, and the ratio is to the row in bold. Corpora
are files of captions whose embeddings stand in memory-mapped stores, as with 100,000 prompts on a GPU; they are
random numbers of MiniLM's shape, for reading them is what is measured.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from embedding_store import Synthetic, prompt

from scaledreamer.allocator import keep_freed_memory
from scaledreamer.training.cli import build_task
from scaledreamer.training.config import DistillRun, load_preset
from scaledreamer.training.embeddings import EmbeddingStore
from scaledreamer.training.loop import Trainer
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.props import load_prior, prior_path
from scaledreamer.training.step import DistillTask

PRESET, LATE = "props-wide", 0.6  # of the run, where the empty prompt is not asked, as in most of it
VIEWS = {f"{4 * sets} views": [f"distill.views.views={4 * sets}"] for sets in (1, 2, 4)}
PIXELS = {f"{side}² pixels": [f"distill.pixels={side}"] for side in (32, 64)}
PIXELS |= {f"32² pixels, {n}³ nodes": [f"distill.nodes={n}"] for n in (24, 40, 48)}
GENERATORS = {
    f"width {width}, {layers} layers": [f"generator.width={width}", f"generator.layers={layers}"]
    for width, layers in ((200, 4), (104, 4), (200, 8), (400, 4))
}


def trainer(overrides: list[str]) -> Trainer:
    """The preset with overrides, at a step in its middle."""
    run = load_preset(PRESET, ["loop.processes=1", *overrides])
    assert isinstance(run, DistillRun)
    task = build_task(run)
    assert isinstance(task, DistillTask)
    return at_work(run, task)


def at_work(run: DistillRun, task: DistillTask) -> Trainer:
    """A trainer in the middle of a run that it writes nowhere."""
    task.steps = run.loop.steps
    made = Trainer(task, run.loop, Path(), Rank(), {})
    made.step = round(LATE * run.loop.steps)
    return made


def of_corpus(count: int, folder: Path) -> Trainer:
    """The same over `count` captions of a file, their embeddings in a store."""
    corpus = folder / f"{count}.txt"
    corpus.write_text("".join(f"{prompt(number)}\n" for number in range(count)))
    store = EmbeddingStore.build(
        map(prompt, range(count)), Synthetic(32, 384), folder / f"store-{count}", lambda _: None
    )
    wanted = [f"distill.corpus={{kind: file, path: {corpus}}}", f"distill.embeddings={folder / f'store-{count}'}"]
    run = load_preset(PRESET, ["loop.processes=1", *wanted])
    assert isinstance(run, DistillRun)
    task = DistillTask(run.generator, load_prior(prior_path("shipped"), store), store, run.distill, run.loop.seed)
    return at_work(run, task)


def table(title: str, runs: dict[str, Trainer], rounds: int) -> None:
    """Steps in turn; the first run is what the others are compared with."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            began = time.process_time()
            runs[name].advance()
            if number > 1:
                times[name].append(time.process_time() - began)
    medians = {name: statistics.median(values) for name, values in times.items()}
    first = next(iter(runs))
    print(f"\n| {title} | CPU-s a step | ratio |\n|---|---|---|")
    for name, value in medians.items():
        shown = f"**{name}**" if name == first else name
        print(f"| {shown} | {value:.3f} | {value / medians[first]:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=int, nargs="*")
    for name in ("--views", "--pixels", "--generator"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("--rounds", type=int, default=40)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as every process that trains
    everything = given.corpus is None and not (given.views or given.pixels or given.generator)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}; {PRESET}, 4 prompts a step")
    sizes = [100, 1000, 10_000, 100_000] if everything else given.corpus or []
    if sizes:
        with tempfile.TemporaryDirectory() as folder:
            table("corpus", {f"{size:,} prompts": of_corpus(size, Path(folder)) for size in sizes}, given.rounds)
    chosen: list[tuple[str, dict[str, Any], bool]] = [
        ("views a prompt", VIEWS, given.views), ("picture and lattice", PIXELS, given.pixels),
        ("generator", GENERATORS, given.generator),
    ]  # fmt: skip
    for title, rows, wanted in chosen:
        if everything or wanted:
            table(title, {name: trainer(overrides) for name, overrides in rows.items()}, given.rounds)


if __name__ == "__main__":
    main()
