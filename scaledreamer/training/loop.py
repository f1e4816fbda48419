"""The training loop: gradients, one optimiser step, EMA, metrics, previews, checkpoints and exact resume."""

import copy
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from PIL import Image
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from scaledreamer.config import Config
from scaledreamer.errors import Interrupted, ModelFileError, TrainingError
from scaledreamer.model.checkpoint import load_weights, read_tensors
from scaledreamer.model.shelf import read_header
from scaledreamer.progress import Progress, warn
from scaledreamer.training import checkpoints
from scaledreamer.training.checkpoints import under
from scaledreamer.training.metrics import Metrics
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
from scaledreamer.training.signals import Asked, asked_to_end


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
        self.saved: int | None = None  # step of the newest checkpoint
        self.batches = 0  # of all processes
        self.cpu_seconds = self.core_seconds = self.wall_seconds = 0.0
        self.metrics = Metrics(folder)
        self.report: Callable[[], None] = lambda: None  # called by the first process after a preview and at the end

    def run(self) -> None:
        """Train to the last step, saving as it goes; Interrupted where SIGTERM or SIGINT asked to end before it."""
        config, rank = self.config, self.rank
        self.folder.mkdir(parents=True, exist_ok=True)
        rank.check_same(self.model, self.step)
        if rank.first:
            self.metrics.open_board(self.step)
        progress = Progress(config.steps, self.step, quiet=not rank.first)
        with progress, asked_to_end() as asked:
            try:
                self._run(progress, asked)
            finally:
                self.metrics.close()
                if rank.first:
                    self.report()
            rank.wait()  # or else a launcher ends the first while it writes, for others have ended
        if self.step < config.steps:
            raise Interrupted(
                f"ended as asked after step {self.step} of {config.steps}, and saved; "
                f"go on with: scaledreamer-train --resume {self.folder}"
            )

    def _run(self, progress: Progress, asked: Asked) -> None:
        config = self.config
        wall, cpu = time.monotonic(), time.process_time()
        sums: dict[str, list[float]] = {}
        while self.step < config.steps:
            for name, value in self.advance().items():
                sums.setdefault(name, []).append(value)
            now, used = time.monotonic(), time.process_time()
            self.core_seconds += (used - cpu) * self.rank.count
            self.wall_seconds, wall = self.wall_seconds + now - wall, now
            self.cpu_seconds, cpu = self.cpu_seconds + used - cpu, used
            last = self.step == config.steps
            ends = self.rank.any(asked.by is not None) and not last
            if self.step % config.log_every == 0 or last:
                means = {name: sum(values) / len(values) for name, values in sums.items()}
                self.log(means)
                progress.update(self.step, means)
                sums.clear()
            if self.step % config.save_every == 0 or last or ends:
                self._keep(must=last or ends)
            if config.preview_every and (self.step % config.preview_every == 0 or last):
                self.preview()
            if ends:
                return

    def advance(self) -> dict[str, float]:
        """One step: loss, averaged gradient, update. A step that is not finite is skipped and counted."""
        config, step = self.config, self.step
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        shared, stats = self.backward(step)
        self.rank.average_gradients(self.model, [shared])
        limit = config.max_grad_norm or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        learns = any(parameter.grad is not None for parameter in self.model.parameters())
        self.step += 1
        self.batches += self.rank.count * config.accumulate
        if not learns or not math.isfinite(norm) or not math.isfinite(float(shared)):
            self.skipped += 1
            self.bad_in_a_row += 1
            if self.bad_in_a_row >= config.max_bad_steps:
                self._give_up("not finite" if learns else "without a gradient (nothing is seen)")
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

    def _give_up(self, why: str) -> None:
        """Keep the weights, which no bad step has touched, and raise TrainingError."""
        bad, self.bad_in_a_row = self.bad_in_a_row, 0  # a resumed run gets as many again
        self._keep(must=False)
        told = "nothing was saved" if self.saved is None else f"{self.folder} has the weights of step {self.saved}"
        raise TrainingError(
            f"{bad} steps in a row were {why}, the last of them step {self.step}; {told}. "
            "Lower loop.optimizer.lr or distill.loss.guidance with --set, and resume"
        )

    def backward(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Gradients of the mean loss over this process's batches; that loss, and the mean of every number to log."""
        shares = self.config.accumulate
        total, sums = torch.zeros(()), dict[str, float]()
        for number in range(shares):
            loss, stats = self.task.loss(step, self.rank.share(number, shares))
            if loss.requires_grad:  # not where nothing is seen
                (loss / shares).backward()
            total = total.to(loss) + loss.detach() / shares
            sums = {name: sums.get(name, 0.0) + value / shares for name, value in stats.items()}
        return total, sums

    def log(self, means: dict[str, float]) -> None:
        """Append one row to the run's metrics."""
        if not self.rank.first:
            return
        row = {
            "step": self.step,
            **{name: float(f"{value:.6g}") for name, value in means.items()},
            "skipped": self.skipped,
            "wall_s": round(self.wall_seconds, 1),
            "cpu_s": round(self.cpu_seconds, 1),  # of the first process
            "core_s": round(self.core_seconds, 1),  # of all processes, each taken as the first
        }
        self.metrics.append(row)

    def preview(self) -> None:
        """Write preview/<step>.png."""
        if not self.rank.first:
            return
        image = self.task.preview(self.ema)
        if image is not None:
            self.metrics.picture(image, self.step)
            self.report()

    def save(self) -> None:
        """Write everything that the next step needs, in one file that appears whole or not at all."""
        if not self.rank.first:
            return
        checkpoints.save(self.folder, self._state(), self._header())
        self.saved = self.step

    def _state(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        if self.config.ema:
            tensors |= {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in moments(self.optimizer, self.model).items()}
        return tensors | {f"task.{name}": value for name, value in self.task.extra_state().items()}

    def _header(self) -> dict[str, Any]:
        counters = {name: getattr(self, name) for name in COUNTERS}
        batches = {"processes": self.rank.count, "each": self.config.accumulate}
        return {"config": self.resolved, "counters": counters, "batches": batches}

    def _keep(self, must: bool) -> None:
        """Save; a disk that takes nothing costs this checkpoint, and the run only where there will be no later one."""
        told = remedy = ""
        try:
            self.save()
        except OSError as error:
            size = sum(tensor.nbytes for tensor in self._state().values()) / 1e6
            whole = "there is none" if self.saved is None else f"the last one is of step {self.saved} and whole"
            told = f"no checkpoint of step {self.step} in {self.folder} ({error}); {whole}"
            remedy = f"Free {size:.0f} MB, then go on with --resume {self.folder}"
            if not must:
                warn(f"{told}. The run goes on; free {size:.0f} MB before step {self.step + self.config.save_every}")
        if must and self.rank.any(bool(remedy)):
            raise TrainingError(f"{told}. {remedy}" if remedy else "the first process could not write the checkpoint")

    def begin_from(self, path: Path, kind: str) -> None:
        """Begin with the weights of a model file of this kind."""
        read_header(path, kind)
        weights = {self.task.start_prefix + name: value for name, value in read_tensors(path).items()}
        for model in (self.model, self.ema):
            load_weights(model, weights, path, partial=True)

    def restore(self) -> None:
        """Continue from the folder's checkpoint: the same weights, moments and counters, and metrics cut to match."""
        header, tensors = checkpoints.load(self.folder, tell=self.rank.first)
        kinds = [config.get("kind") for config in (header["config"], self.resolved)]
        if kinds[0] != kinds[1]:
            raise ModelFileError(
                f"{self.folder} holds a run of kind {kinds[0]!r}, not {kinds[1]!r}; resume it as what it is"
            )
        weights = under("model.", tensors)
        load_weights(self.model, weights, self.folder)
        if self.config.ema:
            load_weights(self.ema, under("ema.", tensors) or weights, self.folder)
        kept = under("optimizer.", tensors)  # a shrunken checkpoint carries none
        now = self.config.optimizer.kind
        before = header["config"].get("loop", {}).get("optimizer", {}).get("kind", now)
        if kept and before != now:
            warn(f"the checkpoint's moments are those of {before!r}, the optimiser is {now!r} now: they start anew")
        else:
            load_moments(self.optimizer, self.model, kept)
        if extra := under("task.", tensors):
            self.task.load_extra_state(extra)
        for name in COUNTERS:
            setattr(self, name, header["counters"].get(name, 0))
        self.saved = self.step
        if self.rank.first:
            self.metrics.cut(self.step)
            self._tell_of_other_shares(header.get("batches"))

    def _tell_of_other_shares(self, before: dict[str, int] | None) -> None:
        """Warn where the batches of a step are shared out otherwise than when the checkpoint was written."""
        now = {"processes": self.rank.count, "each": self.config.accumulate}
        if before is None or before == now:
            return
        was, are = (shares["processes"] * shares["each"] for shares in (before, now))
        told = "batches a step, {processes} processes with {each} each"
        changed = f"{was} {told.format(**before)}, are now {are} {told.format(**now)}"
        if was == are:
            warn(f"{changed}: the same batches, summed in another order, so equal to rounding and no more to the bit")
        else:
            warn(f"{changed}: weights and counters go on, the batches are others and optimizer.lr stays as it is")


COUNTERS = ("step", "skipped", "bad_in_a_row", "batches", "cpu_seconds", "core_seconds", "wall_seconds")
