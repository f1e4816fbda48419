"""What runs inside a process of the server: one handler, built once, asked one thing at a time."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from typing import Any, Protocol


class Handler(Protocol):
    """Answers a task; `say` sends something on the way."""

    def __call__(self, task: Any, say: Callable[[Any], None]) -> Any: ...


Factory = Callable[[], Handler]
THREADS = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"


def run(pipe: Connection, factory: Factory, threads: int) -> None:
    """Until the parent goes: read a task, answer it. An exception is an answer too; only death is not."""
    prepare(threads)
    handler: Handler | None = None
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):  # the parent has gone
            return
        try:
            if handler is None:
                handler = factory()
            answer: tuple[str, Any] = "answer", handler(task, lambda said: pipe.send(("said", said)))
        except Exception as error:
            answer = "error", plain(error)
        with suppress(OSError):
            pipe.send(answer)


def plain(error: Exception) -> Exception:
    """An exception that survives the pipe: classes of other libraries may not unpickle."""
    if type(error).__module__.startswith(("scaledreamer.", "builtins")) and all(
        isinstance(a, str | int) for a in error.args
    ):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def prepare(threads: int) -> None:
    """Bound the threads, lead an own process group, leave Ctrl-C to the parent, and end when the parent ends."""
    for name in THREADS:
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        os.setpgid(0, 0)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is None:
        return
    parent.join()
    if sys.platform != "win32":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
