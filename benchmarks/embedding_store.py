"""What an embedding store costs as it grows: memory of the process that builds, reads and trains, disk, time.

    python benchmarks/embedding_store.py                     # 1,000 and 100,000 prompts, 2.5 GB on disk for a while
    python benchmarks/embedding_store.py --encoder minilm --prompts 1000 10000
    python benchmarks/embedding_store.py --shape 77 1024 --prompts 1000 10000    # Stable Diffusion: 158 kB a prompt

By default a synthetic encoder of MiniLM's shape [32, 384] answers, so that the store is measured and not the encoder;
at [77, 1024] 100,000 prompts are 15.8 GB on disk. Memory is the anonymous resident set (RssAnon of /proc/self/status),
the largest met while building, reading and training: pages of the mapped files are the kernel's and are not counted.
Each size has a fresh process. Training is a few steps of a small generator by ASD from the shipped props prior, which
takes texts of MiniLM's shape, over a file with all the prompts; at other shapes there is none. A read is of one random
prompt, with the hash, the look-up and the copy to float32; beside the clock's times stands the processor's, which other
work on the machine does not touch.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scaledreamer.model.generators import TriplaneTransformerConfig
from scaledreamer.model.generators.triplane_transformer import SummedPlanesConfig
from scaledreamer.model.rendering import LatticeConfig
from scaledreamer.model.text import MiniLM, TextEmbedding, TextEncoder
from scaledreamer.training.embeddings import EmbeddingStore
from scaledreamer.training.loop import LoopConfig, Trainer
from scaledreamer.training.losses import ASDConfig
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.props import load_prior, prior_path
from scaledreamer.training.prompts import FileCorpus
from scaledreamer.training.step import DistillConfig, DistillTask
from scaledreamer.training.views import ViewsConfig

READS, STEPS = 5000, 10


class Synthetic(TextEncoder):
    """Random numbers of a given shape from a table that is drawn once."""

    def __init__(self, tokens: int, width: int) -> None:
        self.table = torch.randn(1024, tokens, width, generator=torch.Generator().manual_seed(0))

    @property
    def name(self) -> str:
        return "synthetic"

    def overflow(self, prompt: str) -> int:
        return 0

    def encode(self, prompts: list[str]) -> TextEmbedding:
        tokens = self.table[[sum(prompt.encode()) % len(self.table) for prompt in prompts]]
        return TextEmbedding(tokens, tokens[:, 0], torch.ones(tokens.shape[:2], dtype=torch.bool))


def anonymous_mb() -> float:
    """Memory of this process that no file backs."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def prompt(number: int) -> str:
    return f"caption number {number}: a weathered wooden prop with iron fittings, one of many, seen from the side"


def measure(count: int, encoder_name: str, shape: tuple[int, int], folder: Path) -> dict[str, float]:
    """Build a store of `count` prompts, read from it, and remove it."""
    torch.set_num_threads(1)
    encoder = MiniLM() if encoder_name == "minilm" else Synthetic(*shape)
    encoder.encode([prompt(0)])
    largest = start = anonymous_mb()

    def watch(done: int) -> None:
        nonlocal largest
        largest = max(largest, anonymous_mb())

    began = time.perf_counter()
    store = EmbeddingStore.build(map(prompt, range(count)), encoder, folder, watch)
    built = time.perf_counter() - began
    built_mb = largest
    rng, waits, busy = random.Random(0), [], []
    for _ in range(READS):
        asked = [prompt(rng.randrange(count))]
        before, cpu = time.perf_counter(), time.thread_time()
        store.encode(asked)
        busy.append(1e3 * (time.thread_time() - cpu))
        waits.append(1e3 * (time.perf_counter() - before))
        watch(0)
    read_mb = largest
    if shape == (32, 384):
        train(store, count, folder, watch)
    began = time.perf_counter()
    store = EmbeddingStore(folder, encoder)
    opened = time.perf_counter() - began
    last = int(0.99 * READS)
    disk = sum(path.stat().st_size for path in folder.iterdir())
    shutil.rmtree(folder)
    return {
        "prompts": count, "start_mb": start, "build_mb": built_mb, "read_mb": read_mb, "train_mb": largest,
        "disk_mb": disk / 1e6,
        "build_s": built, "open_s": opened,
        "read_ms": statistics.median(waits), "read_p99_ms": sorted(waits)[last], "read_p99_cpu_ms": sorted(busy)[last],
    }  # fmt: skip


def train(store: EmbeddingStore, count: int, folder: Path, watch: Callable[[int], None]) -> None:
    """A few steps over a corpus file of `count` prompts."""
    corpus = folder.with_name("corpus.txt")
    with corpus.open("w") as file:
        file.writelines(f"{prompt(number)}\n" for number in range(count))
    config = DistillConfig(
        corpus=FileCorpus(path=corpus), embeddings=folder, loss=ASDConfig(), pixels=32, prompts=4,
        renderer=LatticeConfig(nodes=16, samples=16), views=ViewsConfig(views=4),
    )  # fmt: skip
    generator = TriplaneTransformerConfig(
        width=48, text_width=384, layers=2, heads=3, low_res=4, plane_channels=8, radius=1.0, sphere_bias=0.5,
        decoder=SummedPlanesConfig(hidden=8),
    )  # fmt: skip
    task = DistillTask(generator, load_prior(prior_path("shipped"), store), store, config, seed=0)
    trainer = Trainer(task, LoopConfig(steps=STEPS), folder.with_name("run"), Rank(), {})
    for _ in range(STEPS):
        trainer.advance()
        watch(0)


def main() -> None:
    """Measure each size and print a line each, then how far memory grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--encoder", choices=["synthetic", "minilm"], default="synthetic")
    parser.add_argument(
        "--shape", type=int, nargs=2, default=[32, 384], help="tokens and width of the synthetic encoder"
    )
    options = parser.parse_args()
    told = f"synthetic {options.shape}" if options.encoder == "synthetic" else "MiniLM [32, 384]"
    print(f"encoder: {told}, fp16, one thread")
    rows = []
    for count in options.prompts:
        with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(1) as pool:
            arguments = (count, options.encoder, tuple(options.shape), Path(folder) / "store")
            rows.append(pool.apply(measure, arguments))
        print(json.dumps({name: round(value, 3) for name, value in rows[-1].items()}), flush=True)
    grown = rows[-1]["train_mb"] - rows[0]["train_mb"]
    print(f"anonymous memory grew by {grown:.0f} MB from {rows[0]['prompts']} to {rows[-1]['prompts']} prompts")


if __name__ == "__main__":
    main()
