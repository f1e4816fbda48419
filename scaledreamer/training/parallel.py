"""Data parallelism: one single-threaded process a CPU core (gloo), or one a GPU (nccl); gradients are averaged.

Two one-thread processes keep their pace beside other work, where one two-thread process collapses (docs/log.md).
"""

import ctypes
import hashlib
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist


@dataclass(frozen=True)
class Rank:
    """Which of how many shares of a step's batch this is; a process has one, or several one after the other."""

    index: int = 0
    count: int = 1
    processes: int | None = None  # None: as many as shares

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

    def average_gradients(self, module: nn.Module, also: Iterable[Tensor] = ()) -> None:
        """Replace every gradient, and the given tensors, by their mean over all processes (one message)."""
        processes = self.processes or self.count
        if processes == 1:
            return
        tensors = [p.grad for p in module.parameters() if p.grad is not None] + list(also)
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= processes
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.detach().copy_(mean.view_as(tensor))


def device_of(rank: Rank) -> torch.device:
    """The GPU of this process where there is one for it, else the CPU. The GPU path has never run."""
    if torch.cuda.device_count() > rank.index:
        return torch.device("cuda", rank.index)
    return torch.device("cpu")


def launch(work: Callable[[Rank], None], processes: int) -> None:
    """Run `work` in `processes` processes of one thread each; this one is the first and the others die with it."""
    if processes == 1:
        _prepare()
        work(Rank())
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    others = [
        context.Process(target=_join, args=(work, Rank(i, processes), port), daemon=True) for i in range(1, processes)
    ]
    for other in others:
        other.start()
    try:
        _join(work, Rank(0, processes), port, watch_parent=False)
    finally:
        for other in others:
            other.join(timeout=10)
            other.kill()


def _prepare() -> None:
    """One thread; and glibc keeps freed memory, for every step asks for the same sizes again."""
    torch.set_num_threads(1)
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        trim_threshold, mmap_threshold = -1, -3
        mallopt(mmap_threshold, 32 << 20)
        mallopt(trim_threshold, (1 << 31) - 1)


def _join(work: Callable[[Rank], None], rank: Rank, port: int, watch_parent: bool = True) -> None:
    _prepare()
    if watch_parent:
        threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    backend = "nccl" if torch.cuda.device_count() >= rank.count else "gloo"
    dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=rank.index, world_size=rank.count)
    try:
        work(rank)
    finally:
        dist.destroy_process_group()


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
