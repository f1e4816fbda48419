"""The training loop: gradients, one optimiser step, EMA, metrics, previews, atomic checkpoints and exact resume."""

import copy
import json
import math
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Any

import torch
from PIL import Image
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from scaledreamer.config import Config
from scaledreamer.errors import ModelFileError, TrainingError
from scaledreamer.files import atomic_path
from scaledreamer.model.checkpoint import half, load_weights, read_tensors, write
from scaledreamer.model.shelf import read_header
from scaledreamer.progress import Progress
from scaledreamer.training.optimizers import (
    AdamConfig,
    OptimizerConfig,
    build_optimizer,
    load_moments,
    moments,
    parameter_groups,
)
from scaledreamer.training.parallel import Rank
from scaledreamer.training.schedules import Scheduled, constant

CHECKPOINT = "checkpoint.safetensors"


class LoopConfig(Config):
    """How long, how fast, how careful."""

    steps: PositiveInt
    seed: NonNegativeInt = 0
    start: Path | None = None  # model file whose weights the run begins with; what it lacks begins as without it
    processes: PositiveInt = 1  # on this machine, one a CPU core or one a GPU; a batch size is per process
    accumulate: PositiveInt = 1  # batches of a process whose gradients make one step
    optimizer: OptimizerConfig = AdamConfig()
    lr_scale: Scheduled = constant(1.0)  # multiplies the optimiser's lr
    lr_factors: dict[str, PositiveFloat] = Field(default_factory=dict)  # multiply it too, by the beginnings of names
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0  # decay of the averaged weights that are kept; 0: none
    max_grad_norm: NonNegativeFloat = 0.0  # 0: no clipping
    max_bad_steps: PositiveInt = 20  # this many NaN steps in a row end the run
    save_every: PositiveInt = 100
    log_every: PositiveInt = 20
    preview_every: NonNegativeInt = 0  # 0: none


class Task(ABC):
    """What is trained: a module, its loss at a step, and a picture of how it does."""

    model: nn.Module
    start_prefix = ""  # in front of the names of a model file, where the module holds more than that model

    @abstractmethod
    def loss(self, step: int, rank: Rank) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch drawn from (step, rank) alone, and numbers to log."""

    @abstractmethod
    def preview(self, model: nn.Module) -> Image.Image | None:
        """A strip that shows what `model` makes now."""

    def extra_state(self) -> dict[str, Tensor]:
        """What the next step needs beside the model: of a loss that learns (VSD), its weights and moments."""
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:  # noqa: B027 (most tasks have none)
        """Continue from what `extra_state` returned."""


class Trainer:
    """One run in one folder. The state after step n depends on the config alone, not on where it was interrupted."""

    def __init__(self, task: Task, config: LoopConfig, folder: Path, rank: Rank, resolved: dict[str, Any]) -> None:
        self.task, self.config, self.folder, self.rank, self.resolved = task, config, folder, rank, resolved
        self.model = task.model
        self.optimizer = build_optimizer(config.optimizer, parameter_groups(self.model, config.lr_factors))
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False) if config.ema else self.model
        self.step = self.skipped = self.bad_in_a_row = 0
        self.cpu_seconds = self.wall_seconds = 0.0

    def run(self) -> None:
        """Train to the last step, saving as it goes."""
        config = self.config
        self.folder.mkdir(parents=True, exist_ok=True)
        progress = Progress(config.steps, self.step, quiet=not self.rank.first)
        wall, cpu = time.monotonic(), time.process_time()
        sums: dict[str, list[float]] = {}
        with progress:
            while self.step < config.steps:
                for name, value in self.advance().items():
                    sums.setdefault(name, []).append(value)
                now, used = time.monotonic(), time.process_time()
                self.wall_seconds, wall = self.wall_seconds + now - wall, now
                self.cpu_seconds, cpu = self.cpu_seconds + used - cpu, used
                last = self.step == config.steps
                if self.step % config.log_every == 0 or last:
                    means = {name: sum(values) / len(values) for name, values in sums.items()}
                    self.log(means)
                    progress.update(self.step, means)
                    sums.clear()
                if self.step % config.save_every == 0 or last:
                    self.save()
                if config.preview_every and (self.step % config.preview_every == 0 or last):
                    self.preview()

    def advance(self) -> dict[str, float]:
        """One step: loss, averaged gradient, update. A step that is not finite is skipped and counted."""
        config, step = self.config, self.step
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        shared, stats = self.backward(step)
        self.rank.average_gradients(self.model, [shared])
        limit = config.max_grad_norm or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        self.step += 1
        if not math.isfinite(norm) or not math.isfinite(float(shared)):
            self.skipped += 1
            self.bad_in_a_row += 1
            if self.bad_in_a_row >= config.max_bad_steps:
                raise TrainingError(
                    f"{self.bad_in_a_row} steps in a row were not finite (the last at step {step}); the checkpoint in "
                    f"{self.folder} is intact. Lower optimizer.lr or loss.guidance and resume."
                )
            return {}
        self.bad_in_a_row = 0
        lr = config.optimizer.lr * config.lr_scale.at(step, config.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        self.optimizer.step()
        if config.ema:
            decay = min(config.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - decay)
        return {"loss": float(shared), "grad_norm": norm, "lr": lr, **stats}

    def backward(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Gradients of the mean loss over this process's batches; that loss, and the mean of every number to log."""
        shares = self.config.accumulate
        total, sums = torch.zeros(()), dict[str, float]()
        for number in range(shares):
            loss, stats = self.task.loss(step, self.rank.share(number, shares))
            (loss / shares).backward()
            total = total.to(loss) + loss.detach() / shares
            sums = {name: sums.get(name, 0.0) + value / shares for name, value in stats.items()}
        return total, sums

    def log(self, means: dict[str, float]) -> None:
        """Append one line to metrics.jsonl."""
        if not self.rank.first:
            return
        row = {
            "step": self.step,
            **{name: float(f"{value:.6g}") for name, value in means.items()},
            "skipped": self.skipped,
            "wall_s": round(self.wall_seconds, 1),
            "cpu_s": round(self.cpu_seconds, 1),  # of the first process
        }
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def preview(self) -> None:
        """Write preview/<step>.png."""
        if not self.rank.first:
            return
        image = self.task.preview(self.ema)
        if image is not None:
            (self.folder / "preview").mkdir(exist_ok=True)
            image.save(self.folder / "preview" / f"{self.step:07d}.png")

    def save(self) -> None:
        """Write everything that the next step needs, in one file that appears whole or not at all."""
        if not self.rank.first:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.config.ema:
            tensors |= {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in moments(self.optimizer).items()}
        tensors |= {f"task.{name}": value for name, value in self.task.extra_state().items()}
        header = {"config": self.resolved, "counters": {name: getattr(self, name) for name in COUNTERS}}
        write(self.folder / CHECKPOINT, "training", tensors, header)

    def begin_from(self, path: Path, kind: str) -> None:
        """Begin with the weights of a model file of this kind."""
        read_header(path, kind)
        weights = {self.task.start_prefix + name: value for name, value in read_tensors(path).items()}
        for model in (self.model, self.ema):
            load_weights(model, weights, path, partial=True)

    def restore(self) -> None:
        """Continue from the folder's checkpoint: the same weights, moments and counters, and metrics cut to match."""
        path = self.folder / CHECKPOINT
        header, tensors = read_header(path, "training"), read_tensors(path)
        kinds = [config.get("kind") for config in (header["config"], self.resolved)]
        if kinds[0] != kinds[1]:
            raise ModelFileError(f"{path} holds a run of kind {kinds[0]!r}, not {kinds[1]!r}; resume it as what it is")
        weights = _under("model.", tensors)
        self.model.load_state_dict(weights)
        if self.config.ema:
            self.ema.load_state_dict(_under("ema.", tensors) or weights)
        load_moments(self.optimizer, _under("optimizer.", tensors))  # a shrunken checkpoint carries none
        if extra := _under("task.", tensors):
            self.task.load_extra_state(extra)
        for name in COUNTERS:
            setattr(self, name, header["counters"][name])
        if self.rank.first:
            self._cut_metrics()

    def _cut_metrics(self) -> None:
        """Drop log lines of steps after the checkpoint; they will be made again."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line that a kill cut short
                continue
            if row["step"] <= self.step:
                kept.append(line + "\n")
        with atomic_path(path) as partial:
            partial.write_text("".join(kept))


COUNTERS = ("step", "skipped", "bad_in_a_row", "cpu_seconds", "wall_seconds")


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def averaged_weights(folder: Path) -> dict[str, Tensor]:
    """The weights that a run keeps: its EMA, or the model where there is none."""
    read_header(folder / CHECKPOINT, "training")
    tensors = read_tensors(folder / CHECKPOINT)
    return _under("ema.", tensors) or _under("model.", tensors)


def shrink(folder: Path, out: Path) -> None:
    """Write a run's averaged weights and counters in fp16, without optimiser moments: small enough to carry.

    A resume from it starts the moments anew, so it is not exact.
    """
    header = read_header(folder / CHECKPOINT, "training")
    weights = {f"model.{name}": value for name, value in averaged_weights(folder).items()}
    write(out, "training", half(weights), header)
