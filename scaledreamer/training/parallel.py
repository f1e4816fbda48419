"""Data parallelism: one single-threaded process a CPU core (gloo), or one a GPU (nccl); gradients are averaged.

The processes are our own, or those that torchrun or accelerate launch has started. Two one-thread processes keep their
pace beside other work, where one two-thread process collapses (docs/log.md).
"""

import hashlib
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from scaledreamer.allocator import keep_freed_memory
from scaledreamer.errors import Interrupted, ScaleDreamerError, TrainingError
from scaledreamer.training.signals import RESUME_ME

GIVEN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # torchrun and accelerate launch set them
PATIENCE = timedelta(days=7)  # of processes that wait until data or embeddings are built


@dataclass(frozen=True)
class Rank:
    """Which of how many shares of a step's batch this is; a process has one, or several one after the other."""

    index: int = 0
    count: int = 1
    processes: int | None = None  # None: as many as shares
    local: int | None = None  # among the processes of this machine; None: there is one machine

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.index == 0

    def share(self, number: int, of: int) -> "Rank":
        """One of the `of` shares that this process takes on in turn: what more processes would do beside it."""
        return Rank(self.index + number * self.count, self.count * of, self.count)

    def rng(self, seed: int, step: int, purpose: str = "") -> torch.Generator:
        """The randomness of one step of this process; nothing before counts, so a resumed run is the same run."""
        digest = hashlib.blake2b(f"{seed}/{self.index}/{step}/{purpose}".encode(), digest_size=8).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest) >> 1)

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return (self.processes or self.count) == 1

    def any(self, mine: bool) -> bool:
        """Whether it is true in any process; all of them must ask."""
        if self.alone:
            return mine
        told = torch.tensor(float(mine), device=device_of(self))
        dist.all_reduce(told)
        return bool(told > 0)

    def wait(self) -> None:
        """Return when all processes are here."""
        self.any(False)

    def check_same(self, module: nn.Module, step: int) -> None:
        """Raise TrainingError unless all processes are at this step with the same weights, to the bit."""
        if self.alone:
            return
        digest = hashlib.blake2b(str(step).encode(), digest_size=7)
        for value in module.state_dict().values():
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        low, high = (torch.tensor(int.from_bytes(digest.digest()), device=device_of(self)) for _ in range(2))
        dist.all_reduce(low, dist.ReduceOp.MIN)
        dist.all_reduce(high, dist.ReduceOp.MAX)
        if low != high:
            raise TrainingError(
                f"the {self.count} processes begin with different weights (this one at step {step}); "
                "all must read the same run folder and the same files"
            )

    def average_gradients(self, module: nn.Module, also: Iterable[Tensor] = ()) -> None:
        """Replace every gradient, and the given tensors, by their mean over all processes (one message).

        A parameter without a gradient here counts as zero; one that has none in any process keeps none.
        """
        if self.alone:
            return
        parameters = [p for p in module.parameters() if p.requires_grad]
        given = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=device_of(self))
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        tensors = [p.grad for p in parameters if p.grad is not None] + list(also) + [given]
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.processes or self.count
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))
        for parameter, share in zip(parameters, given.tolist(), strict=True):
            if not share:
                parameter.grad = None


def device_of(rank: Rank) -> torch.device:
    """The GPU of this process where there is one for it, else the CPU. The GPU path has never run."""
    local = rank.index if rank.local is None else rank.local
    if torch.cuda.device_count() > local:
        return torch.device("cuda", local)
    return torch.device("cpu")


def given_place() -> Rank | None:
    """Which process this is of those that torchrun or accelerate launch has started; None: nobody has."""
    if not all(name in os.environ for name in GIVEN):
        return None
    index, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return Rank(index, count, local=int(os.environ.get("LOCAL_RANK", index)))


def launch(work: Callable[[Rank], None], processes: int, prepare: Callable[[], None] = lambda: None) -> None:
    """Run `prepare` once on a machine, then `work` in every process of one thread.

    Where torchrun or accelerate launch has started this process, it and its siblings are the processes. Otherwise this
    one starts the others; it is the first of `processes`, and the others die with it.
    """
    if (place := given_place()) is not None:
        _work_among(work, place, prepare)
        return
    prepare()
    if processes == 1:
        _prepare()
        work(Rank())
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    ranks = [Rank(index, processes) for index in range(processes)]
    others = [context.Process(target=_join, args=(work, rank, port), daemon=True) for rank in ranks[1:]]
    for other in others:
        other.start()
    try:
        _prepare()
        with _group(ranks[0], f"tcp://127.0.0.1:{port}"):
            work(ranks[0])
    except RuntimeError as error:  # what a lost connection raises
        for number, other in enumerate(others, start=1):
            other.join(timeout=5)
            if other.exitcode not in (None, 0, RESUME_ME):
                ended = f"process {number} of {processes} ended with {other.exitcode}"
                raise TrainingError(f"{ended}; what it said stands above. The last checkpoint is whole") from error
        raise
    finally:
        for other in others:
            other.join(timeout=10)
            other.kill()


def _work_among(work: Callable[[Rank], None], place: Rank, prepare: Callable[[], None]) -> None:
    """The part of one process that others have started; those of a machine wait until its first has prepared."""
    _prepare()
    if place.count == 1:
        prepare()
        work(Rank())
        return
    store, _, _ = next(rendezvous("env://", place.index, place.count))
    assert place.local is not None
    ready = f"scaledreamer/ready/{place.index - place.local}"
    if place.local == 0:
        prepare()
        store.set(ready, "yes")
    else:
        store.wait([ready], PATIENCE)
    with _group(place, store):
        work(place)


def _prepare() -> None:
    """One thread; and freed memory is kept, for every step asks for the same sizes again."""
    torch.set_num_threads(1)
    keep_freed_memory()


@contextmanager
def _group(rank: Rank, meeting: Any) -> Iterator[None]:
    """The process group of a run, met at an address or in a store."""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", rank.count))
    backend = "nccl" if torch.cuda.device_count() >= here else "gloo"
    if isinstance(meeting, str):
        dist.init_process_group(backend, init_method=meeting, rank=rank.index, world_size=rank.count)
    else:
        dist.init_process_group(backend, store=meeting, rank=rank.index, world_size=rank.count)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _join(work: Callable[[Rank], None], rank: Rank, port: int) -> None:
    """A process of our own; what ends all processes alike is told by the first."""
    _prepare()
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    try:
        with _group(rank, f"tcp://127.0.0.1:{port}"):
            work(rank)
    except Interrupted:
        sys.exit(RESUME_ME)
    except ScaleDreamerError as error:
        print(f"error: process {rank.index} of {rank.count}: {error}", file=sys.stderr)
        sys.exit(2)


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
