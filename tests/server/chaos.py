"""A real `serve` whose processes are killed: handlers that are caught in the middle of a file, and who kills them."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx

from scaledreamer.server.child import Factory
from scaledreamer.server.finishing import FinishTask, Warm
from scaledreamer.server.generating import FieldTask, Load, Loaded, Made
from scaledreamer.server.main import bind
from scaledreamer.server.records import Failure, Outcome
from scaledreamer.server.recycling import resident_bytes
from tests.server.fakes import MODEL, FakeFinishing, FakeGenerating, Say

ROOT = Path(__file__).resolve().parents[2]
HALF = 0.02  # seconds that a file is half there
LONGEST = 400.0  # seconds until a server is ready, on the slowest machine
PROCESSES = 2  # for meshes


class HalfGenerating(FakeGenerating):
    """A field file is half there for a while under the name that a field has until it is whole."""

    def __call__(self, task: Load | list[FieldTask], say: Say) -> Loaded | list[Made | Failure]:  # type: ignore[override]
        if isinstance(task, Load):
            return super().__call__(task, say)
        for one in task:
            half = one.path.with_name(f".{one.path.name}.half.partial")
            half.write_text(one.prompt[: len(one.prompt) // 2])
            time.sleep(HALF)
            half.unlink()
        return super().__call__(task, say)


class HalfFinishing(FakeFinishing):
    """A folder of files is half there for a while."""

    def __call__(self, task: Warm | FinishTask, say: Say) -> Outcome | Failure | None:
        if isinstance(task, FinishTask):
            task.folder.mkdir(parents=True, exist_ok=True)
            (task.folder / "triangle.glb").write_bytes(b"glT")
            time.sleep(2 * HALF)
        return super().__call__(task, say)


def serve(generating: Factory = HalfGenerating, finishing: Factory = HalfFinishing) -> None:
    """`scaledreamer serve` with these handlers, and all else from the environment."""
    from scaledreamer.server import main
    from scaledreamer.server.app import create_app

    main.create_app = partial(create_app, model=MODEL, generating=generating, finishing=finishing)  # type: ignore[attr-defined]
    sys.exit(main.serve())


class Program:
    """`serve` as a process that may be killed and started anew at the same address."""

    def __init__(self, folder: Path, real: bool, **settings: object) -> None:
        self.data, self.log = folder / "data", folder / "log.txt"
        with bind("127.0.0.1", 0) as free:
            self.port = int(free.getsockname()[1])
        self.address = f"http://127.0.0.1:{self.port}"
        code = "scaledreamer.cli import main" if real else "tests.server.chaos import serve as main"
        self.command = [sys.executable, "-c", f"from {code}; main()", "serve"]
        given = {"data": self.data, "port": self.port, "mesh_processes": PROCESSES, **settings}
        own = {f"SCALEDREAMER_{name.upper()}": str(value) for name, value in given.items()}
        self.environment = os.environ | own | {"PYTHONPATH": str(ROOT)}

    def __enter__(self) -> "Program":
        self.first = self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> float:
        """Seconds until it is ready."""
        began = time.monotonic()
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log)
        while not self.ready():
            assert self.process.poll() is None and time.monotonic() - began < LONGEST, self.log.read_text()[-2000:]
            time.sleep(0.05)
        return time.monotonic() - began

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/health/ready", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """The web process, at once; the others must end by themselves."""
        self.process.kill()
        self.process.wait()

    def workers(self) -> list[int]:
        """Generator and mesh processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children if "spawn_main" in command_of(int(child))]

    def resident(self) -> int:
        """Bytes of memory of all processes."""
        return sum(map(resident_bytes, [self.process.pid, *self.workers()]))


def command_of(pid: int) -> str:
    """The command line of a process; nothing for one that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


class Killer(threading.Thread):
    """Kills when so many jobs have ended, at moments that a seed chooses; every few times the web process itself."""

    def __init__(
        self, program: Program, ended: Callable[[], int], jobs: int, workers: int, webs: int, seed: int
    ) -> None:
        super().__init__()
        self.program, self.ended, self.rng = program, ended, random.Random(seed)
        victims = ["worker"] * workers + ["web"] * webs
        self.rng.shuffle(victims)
        self.plan = sorted(zip(self.rng.sample(range(jobs * 9 // 10), len(victims)), victims, strict=True))
        self.killed, self.recoveries = 0, list[float]()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for count, victim in self.plan:
                while self.ended() < count:
                    time.sleep(0.005)
                time.sleep(self.rng.uniform(0, 0.1))
                if victim == "web":
                    self.program.kill()
                    self.recoveries.append(self.program.start())
                else:
                    self.kill_worker()
        except BaseException as error:
            self.error = error

    def kill_worker(self) -> None:
        """One of those that run now."""
        while True:
            with suppress(IndexError, ProcessLookupError):
                os.kill(self.rng.choice(self.program.workers()), signal.SIGKILL)
                break
        self.killed += 1
