"""A process of its own for what may crash, hang, or take too long."""

import os
import signal
import subprocess
import sys


class ChildError(Exception):
    """Why a child process has no answer."""


def ask(command: list[str], question: bytes, budget_s: float) -> bytes:
    """What the command writes when it reads the question; it and its children are gone afterwards, whatever happens."""
    pipe, calm = subprocess.PIPE, {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=calm, start_new_session=True) as child:
        try:
            answer, complaint = child.communicate(question, timeout=max(budget_s, 0))
        except subprocess.TimeoutExpired:
            raise ChildError(f"it took longer than {budget_s:.3g} s") from None
        finally:
            kill(child)
    if child.returncode:
        last = complaint.decode(errors="replace").strip().splitlines()[-1:]
        raise ChildError(": ".join([f"it ended with status {child.returncode}", *last]))
    return answer


def kill(child: subprocess.Popen[bytes]) -> None:
    """End a process and its group; one that was waited for is left alone, since its number may be another's by now."""
    if child.returncode is None:
        if sys.platform == "win32":
            child.kill()
        else:
            os.killpg(child.pid, signal.SIGKILL)
