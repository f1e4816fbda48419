"""What a distillation run costs, told before it is paid: memory and time of a step, and what would make it smaller.

Two steps of the run itself are taken by the trainer, at full size, with tensors that have shapes and no numbers
(`ledger`). Nothing of the step is described a second time here, so what changes there changes here.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
)

from scaledreamer.model.cameras import rays
from scaledreamer.model.generators import PromptNGP, PromptNGPConfig
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.rendering import LatticeConfig, NeRFConfig, VolSDFConfig, render
from scaledreamer.model.rendering.lattice import chord
from scaledreamer.model.text import TextEmbedding
from scaledreamer.training.config import DistillRun, resolve
from scaledreamer.training.ledger import DRAWS, Ledger, Rates, assign, imagined
from scaledreamer.training.loop import Trainer
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.config import MVDreamConfig, PropsPriorConfig, StableDiffusionConfig
from scaledreamer.training.priors.skeleton import Skeleton, minilm, skeleton
from scaledreamer.training.priors.view_prompts import SUFFIXES
from scaledreamer.training.prompts import ListCorpus
from scaledreamer.training.schedules import constant
from scaledreamer.training.step import DistillTask
from scaledreamer.training.views import sample_views

GB = 1e9
REST = "renderer and losses"
# An A100 has peaks of 19.5 TFLOP/s in float32 and 312 in fp16, of which diffusion networks see less. Not measured.
A100 = Rates("an A100 at half of its float32 peak and a quarter of its fp16 peak", 9.75e12, 78e12, 1.5e12)
UNKNOWN = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException)


@dataclass(frozen=True)
class Costs:
    """Of one process of a run: bytes, and what a step takes."""

    where: str  # the machine whose rates give the seconds, and the precision of the prior
    peak: int  # bytes at the moment when most is in use
    at_peak: dict[str, int]  # the same moment, by part
    most: dict[str, int]  # bytes of each part when that part has most
    flops: dict[str, int]  # a step, forward and backward
    seconds: dict[str, float]  # a step at least
    table: int | None  # bytes of the embeddings in the host's memory; None: the corpus is not here

    def told(self) -> dict[str, Any]:
        """For a reader: GB (10^9 bytes), TFLOP, seconds."""
        names = sorted(self.most, key=lambda name: -self.most[name])
        return {
            "where": self.where,
            "peak_gb": round(self.peak / GB, 2),
            "seconds_a_step_at_least": round(sum(self.seconds.values()), 3),
            "embeddings_table_gb": None if self.table is None else round(self.table / GB, 3),
            "parts": {
                name: {
                    "gb_at_the_peak": round(self.at_peak.get(name, 0) / GB, 3),
                    "gb_at_most": round(self.most[name] / GB, 3),
                    "tflop": round(self.flops.get(name, 0) / 1e12, 4),
                    "seconds": round(self.seconds.get(name, 0.0), 4),
                }
                for name in names
            },
        }


def costs(run: DistillRun, texts: int | None = None) -> Costs | None:
    """One process's costs; `texts` is how many embeddings a table in RAM holds. None: this prior, or something in the
    step, cannot be imagined.
    """
    dtype, rates = machine(run)
    share = share_seen(run)
    try:
        with imagined():
            bones = skeleton(run.prior, dtype)
            if bones is None:
                return None
            task, trainer = imagine(run, bones)
            ledger = Ledger(rates, share)
            book(ledger, task, trainer, bones)
            with ledger:
                trainer.advance()  # from here on there are moments
                ledger.flops.clear()
                ledger.seconds.clear()
                trainer.advance()
    except UNKNOWN:
        return None
    batches = run.loop.accumulate / trainer.config.accumulate  # of which so many were taken
    each = {name: 1 if name == "optimiser" else batches for name in ledger.seconds}
    text = 4 * bones.encoder.parameters
    row = 2 * (bones.encoder.window + 1) * bones.encoder.width + bones.encoder.window  # fp16, and a mask
    table = None if texts is None else row * texts * (1 + len(SUFFIXES) * run.distill.view_dependent)
    if run.distill.embeddings is not None:
        table = 0  # it is on disk
    alone = table or 0 if rates is not A100 else 0  # a GPU's memory holds no table
    fixed = {"text encoder": text, "embeddings table": alone}
    return Costs(
        f"{rates.name}; prior in {str(dtype).removeprefix('torch.')}",
        ledger.peak + text + alone,
        ledger.at_peak | fixed,
        dict(ledger.most) | fixed,
        {name: round(value * each[name]) for name, value in ledger.flops.items()},
        {name: value * each[name] for name, value in ledger.seconds.items()},
        table,
    )


def machine(run: DistillRun) -> tuple[torch.dtype, Rates]:
    """Precision of the prior and speed of the machine: this CPU, or a GPU where there is one or where the pretrained
    weights are not on this disk, for then the run will not be here.
    """
    elsewhere = isinstance(run.prior, StableDiffusionConfig | MVDreamConfig) and not Path(run.prior.path).exists()
    if elsewhere or torch.cuda.is_available():
        return (torch.float32 if isinstance(run.prior, PropsPriorConfig) else torch.float16), A100
    return torch.float32, this_cpu()


@cache
def this_cpu() -> Rates:
    """One core of this machine, measured: a product of two matrices, and a copy."""
    a, long = torch.rand(768, 768), torch.rand(1 << 24)

    def best(work: int, call: Any) -> float:
        times = []
        for _ in range(4):
            began = time.process_time()
            call()
            times.append(time.process_time() - began)
        return work / min(times[1:])

    flops = best(2 * 768**3, lambda: a @ a)
    return Rates("this CPU as measured", flops, flops, best(8 * len(long), long.clone))


def imagine(run: DistillRun, bones: Skeleton) -> tuple[DistillTask, Trainer]:
    """The run's own task and trainer at its dearest step, with made-up prompts and at most two batches a step."""
    own = isinstance(run.prior, PropsPriorConfig) or run.text_encoder == "prior"
    corpus = ListCorpus(prompts=tuple(map(str, range(max(DRAWS, run.distill.prompts)))))
    distill = run.distill.model_copy(update={"corpus": corpus, "embeddings": None})
    task = DistillTask(run.generator, bones.prior, bones.encoder if own else minilm(), distill, run.loop.seed)
    task.steps = run.loop.steps
    loop = run.loop.model_copy(update={"accumulate": min(2, run.loop.accumulate)})
    trainer = Trainer(task, loop, Path(), Rank(), {})
    moments = [round(i * run.loop.steps / 100) for i in range(100)]
    pixels, nodes = run.distill.pixels, run.distill.nodes or constant(0)
    trainer.step = max(moments, key=lambda step: (pixels.at(step, run.loop.steps), nodes.at(step, run.loop.steps)))
    return task, trainer


def book(ledger: Ledger, task: DistillTask, trainer: Trainer, bones: Skeleton) -> None:
    """Tell the ledger what is there already, and which network is which part."""
    ledger.hold("weights", tensors_of(task.scenery))
    ledger.hold("averaged weights", tensors_of(trainer.ema))
    ledger.hold("prior's weights", tensors_of(bones.denoiser))
    # A batch begins with the generator, and what is not a network's is the renderer's.
    task.scenery.generator.register_forward_pre_hook(lambda *_: ledger.work_on(REST))
    assign(ledger, task.scenery.generator, "generator")
    assign(ledger, bones.denoiser, "denoiser")
    if bones.autoencoder is not None:
        ledger.hold("prior's weights", tensors_of(bones.autoencoder))
        assign(ledger, cast(nn.Module, bones.autoencoder.encoder), "encoder")
    if task.vsd is not None:
        ledger.hold("prior's weights", tensors_of(task.vsd.network))
        assign(ledger, task.vsd.network, "denoiser")
    for parameter in task.scenery.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: ledger.move(p.grad, "gradients"))
    trainer.optimizer.register_step_pre_hook(lambda *_: ledger.work_on("optimiser"))
    ledger.work_on(REST)


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers."""
    return itertools.chain(module.parameters(), module.buffers())


def share_seen(run: DistillRun) -> float:
    """Of the rays (lattice) or samples (NeRF) that are asked at all, measured at 16 pixels from the run's own cameras;
    a NeRF shows the blob that it starts from.
    """
    renderer, rng = run.distill.renderer, torch.Generator().manual_seed(0)
    cameras = [sample_views(run.distill.views, run.distill.prompts, rng) for _ in range(8)]
    match renderer:
        case LatticeConfig():
            seen = [chord(*rays(camera, 16, 16), run.generator.radius)[0].float().mean() for camera in cameras]
        case NeRFConfig() if isinstance(run.generator, PromptNGPConfig):
            small = run.generator.model_copy(update={"grid": HashGridConfig(levels=2, log2_entries=8), "hidden": 8})
            with torch.no_grad():
                field = PromptNGP(small)(TextEmbedding(torch.zeros(1, 1, 1), torch.zeros(1, 1)))
                weights = [render(field, camera, None, 16, renderer, rng).samples.weights for camera in cameras]
            seen = [(each > 0).float().mean() for each in weights if each is not None]
        case _:
            return 1.0
    return float(sum(seen) / len(seen))


def switches(run: DistillRun, table: int) -> list[tuple[str, ...]]:
    """What makes a run smaller without changing what it learns, each as overrides; `table` is what embeddings have of
    its memory.
    """
    found: list[tuple[str, ...]] = []
    if isinstance(run.prior, StableDiffusionConfig | MVDreamConfig) and run.prior.encode_chunk is None:
        found.append(("prior.encode_chunk=1",))
    if isinstance(run.distill.renderer, VolSDFConfig) and not run.distill.renderer.recompute:
        found.append(("distill.renderer.recompute=1024",))
    if run.distill.prompts > 1:
        batches = run.loop.accumulate * run.distill.prompts
        found.append(("distill.prompts=1", f"loop.accumulate={batches}"))
    if table and (run.text_encoder == "prior" or isinstance(run.prior, PropsPriorConfig)):
        found.append(("distill.embeddings=data/embeddings",))
    return found


def fit(run: DistillRun, budget_gb: float, texts: int | None = None) -> dict[str, Any]:
    """The fewest switches that keep a process under the budget, of those the fastest; the estimate after each."""
    known: dict[tuple[tuple[str, ...], ...], Costs | None] = {(): costs(run, texts)}
    first = known[()]
    if first is None:
        return {}
    possible = switches(run, first.at_peak["embeddings table"])

    def with_switches(chosen: tuple[tuple[str, ...], ...]) -> Costs:
        if chosen not in known:
            overrides = [override for switch in chosen for override in switch]
            smaller = resolve(run.model_dump(mode="json"), overrides)
            assert isinstance(smaller, DistillRun)
            known[chosen] = costs(smaller, texts)
        found = known[chosen]
        assert found is not None
        return found

    chosen = tuple(possible)
    for size in range(len(possible) + 1):
        under = [c for c in itertools.combinations(possible, size) if with_switches(c).peak <= budget_gb * GB]
        if under:
            chosen = min(under, key=lambda c: sum(with_switches(c).seconds.values()))
            break
    after = []
    for size in range(1, len(chosen) + 1):
        then = with_switches(chosen[:size])
        seconds = round(sum(then.seconds.values()), 3)
        after.append({
            "set": list(chosen[size - 1]), "peak_gb": round(then.peak / GB, 2), "seconds_a_step_at_least": seconds
        })  # fmt: skip
    return {"budget_gb": budget_gb, "fits": with_switches(chosen).peak <= budget_gb * GB, "switches": after}
