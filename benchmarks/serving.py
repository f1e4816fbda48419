"""A server under load: what one request costs, how many it does, how it stands four times as many, and whom it fails.

    python benchmarks/serving.py                  # five minutes of 100 clients, about ten in all
    python benchmarks/serving.py --quick          # under a minute on a quiet machine: shows that it works, no more

`scaledreamer serve` runs as a program of its own with the default model; the load comes from this process, over
loopback, and takes part of the same cores. Its processor time is counted apart, and so is that of the server's
processes together. Prompts at resolution 64, preset raw, GLB. Run it on a quiet machine.
"""

import argparse
import asyncio
import hashlib
import itertools
import json
import multiprocessing
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx

from scaledreamer.client import AsyncClient, Client, ServerError

OVERLOAD = 4
SIZE: dict[str, Any] = {"resolution": 64, "formats": ["glb"], "preset": "raw"}
HEAVY: dict[str, Any] = {"resolution": 256, "formats": ["glb"], "preset": "hero"}  # runs long enough to be canceled
COLOURS, THINGS = ("red", "blue", "green", "orange", "white"), ("mushroom", "barrel", "mug", "chair", "house", "rocket")
SETTINGS = {"rate": 10**6, "burst": 10**6, "max_unfinished": 10**6, "max_queue_seconds": 20, "log_level": "error"}
TICK = 1 / os.sysconf("SC_CLK_TCK")
numbers = itertools.count()


@dataclass
class Server:
    """A running `scaledreamer serve`."""

    data: str
    port: int = 0
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> float:
        """Seconds until it is ready."""
        began = time.perf_counter()
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        given = {**SETTINGS, "data": self.data, "port": self.port}
        own = {f"SCALEDREAMER_{name.upper()}": str(value) for name, value in given.items()}
        code = "from scaledreamer.cli import main; main()"
        with open(f"{self.data}/log.txt", "a") as log:
            command = [sys.executable, "-c", code, "serve"]
            self.process = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
        with Client(self.base) as client:
            while not client.ready():
                if self.process.poll() is not None:
                    raise SystemExit("the server did not start")
                time.sleep(0.1)
        return time.perf_counter() - began

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait()

    def cpu(self) -> float:
        """Seconds of processor that all its processes have taken."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return sum(cpu_of(each) for each in (str(pid), *children))

    def metrics(self) -> dict[str, float]:
        lines = httpx.get(f"{self.base}/metrics", timeout=60).text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def cpu_of(pid: str) -> float:
    """Of a process and the children that it has waited for; 0 for one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return TICK * sum(map(int, fields[11:15]))


def fresh() -> str:
    """A prompt that nobody has asked for."""
    number = next(numbers)
    return f"a {COLOURS[number % 5]} {THINGS[number % 6]} number {number}"


def share(values: list[float], part: float) -> float:
    """The value that so large a part of them does not pass."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def alone(server: Server, count: int) -> tuple[float, float, float, float]:
    """Seconds of a first request and of the same again (medians); of processor for a first one, and the web process's
    part of these (means).
    """
    prompts, seconds = [fresh() for _ in range(count)], []
    with httpx.Client(base_url=server.base, timeout=600, headers={"accept": "model/gltf-binary"}) as http:
        http.post("/generate", json={"prompt": fresh(), **SIZE}).raise_for_status()
        for turn in range(2):
            before, web = server.cpu(), cpu_of(str(server.process.pid))
            for prompt in prompts:
                began = time.perf_counter()
                http.post("/generate", json={"prompt": prompt, **SIZE}).raise_for_status()
                seconds.append(time.perf_counter() - began)
            if turn == 0:
                cost, own = (server.cpu() - before) / count, (cpu_of(str(server.process.pid)) - web) / count
    return statistics.median(seconds[:count]), statistics.median(seconds[count:]), cost, own


async def together(
    server: Server, clients: int, seconds: float, work: Callable[[AsyncClient], Awaitable[None]]
) -> None:
    """So many clients that do one work after the other; what has begun is finished."""
    ends = time.perf_counter() + seconds

    async def live(client: AsyncClient) -> None:
        while time.perf_counter() < ends:
            await work(client)

    async with AsyncExitStack() as stack:
        own = [await stack.enter_async_context(AsyncClient(server.base, patience=600)) for _ in range(clients)]
        await asyncio.gather(*map(live, own))


def saturated(server: Server, seconds: float) -> tuple[float, float]:
    """Requests a second of distinct prompts with eight clients, and cores that this process took meanwhile."""
    done: list[float] = []

    async def work(client: AsyncClient) -> None:
        await client.generate(fresh(), **SIZE)
        done.append(time.perf_counter())

    own, began = time.process_time(), time.perf_counter()
    asyncio.run(together(server, 8, seconds, work))
    load = (time.process_time() - own) / (time.perf_counter() - began)
    return len(done) / (done[-1] - began), load


class Wire:
    """Posts over kept connections, with little work for each: the load shares the cores of what it measures."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, path: str, body: dict[str, Any]) -> int:
        """The status of the answer."""
        while self.free and self.free[-1][0].at_eof():  # the server closes what nobody uses
            self.free.pop()[1].close()
        reader, writer = self.free.pop() if self.free else await asyncio.open_connection("127.0.0.1", self.port)
        text = json.dumps(body)
        head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\ncontent-length: {len(text)}\r\n\r\n"
        writer.write((head + text).encode())
        status, _, fields = (await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")
        length = next(line.split(":")[1] for line in fields.lower().splitlines() if line.startswith("content-length:"))
        await reader.readexactly(int(length))
        self.free.append((reader, writer))
        return int(status.split()[1])


@dataclass
class Overloaded:
    """What a server did while it was asked for too much."""

    goodput: float  # works a second
    refused: float  # of all requests
    load: float  # cores that this process took meanwhile
    lag: float  # seconds that the event loop was late at most in 99 of 100 looks: the bound of a bucket
    live: float  # seconds of GET /health/live, the 99th of 100


def overloaded(server: Server, rate: float, seconds: float) -> Overloaded:
    """Requests arrive at a rate, whether or not earlier ones were answered; counted once the queue is full."""
    answers: list[int] = []

    async def post(wire: Wire) -> None:
        answers.append(await wire.post("/v1/jobs", {"prompt": fresh(), **SIZE}))

    async def arrive() -> tuple[dict[str, float], dict[str, float]]:
        began, wire = time.perf_counter(), Wire(server.port)
        async with asyncio.TaskGroup() as group:
            before: dict[str, float] = {}
            while (now := time.perf_counter() - began) < 1.25 * seconds:
                if not before and now > 0.25 * seconds:
                    before = await asyncio.to_thread(server.metrics)
                group.create_task(post(wire))
                await asyncio.sleep(random.expovariate(rate))
            return before, await asyncio.to_thread(server.metrics)

    ours, theirs = multiprocessing.Pipe()
    probe = multiprocessing.get_context("spawn").Process(target=probe_live, args=(theirs, server.port), daemon=True)
    probe.start()
    ours.recv()
    own, began = time.process_time(), time.perf_counter()
    before, after = asyncio.run(arrive())
    load = (time.process_time() - own) / (time.perf_counter() - began)
    ours.send("enough")
    live = ours.recv()
    probe.join()
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    buckets = {
        float(name.split('"')[1]): count
        for name, count in grown.items()
        if name.startswith("scaledreamer_event_loop_lag_seconds_bucket")
    }
    lag = min(bound for bound, count in buckets.items() if count >= 0.99 * buckets[float("inf")])
    goodput = grown['scaledreamer_works_total{outcome="succeeded"}'] / seconds
    with Client(server.base, patience=600) as client:
        for status in ("queued", "running"):
            for job in list(client.jobs(status)):
                client.cancel(job)
    refused = sum(code != 202 for code in answers) / len(answers)
    return Overloaded(goodput, refused, load, lag, share(live, 0.99))


def probe_live(pipe: Connection, port: int) -> None:
    """In a process of its own: seconds of GET /health/live, until it is told to stop."""
    seconds: list[float] = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        http.get("/health/live")
        pipe.send("ready")
        while not pipe.poll():
            began = time.perf_counter()
            http.get("/health/live").raise_for_status()
            seconds.append(time.perf_counter() - began)
            time.sleep(0.1)
    pipe.send(seconds)


def crowd(server: Server, seconds: float) -> tuple[int, list[str]]:
    """Answers to a hundred clients, half of whose prompts come again and again; and what was wrong with some."""
    popular, known, faults, count = [fresh() for _ in range(20)], dict[str, str](), list[str](), 0

    async def work(client: AsyncClient) -> None:
        nonlocal count
        prompt = random.choice(popular) if random.random() < 0.5 else fresh()
        try:
            job = await client.generate(prompt, **SIZE)
            file = next(file for file in job.files if file.role == "mesh")
            body = (await client.http.get(f"/v1/jobs/{job.id}/files/{file.name}")).raise_for_status().content
            digest = hashlib.sha256(body).hexdigest()
            if job.prompt != prompt or digest != file.sha256 or known.setdefault(prompt, digest) != digest:
                faults.append(f"wrong: {prompt}: {job.id}")
        except (ServerError, TimeoutError, httpx.HTTPError) as error:
            faults.append(f"lost: {prompt}: {error!r}")
        count += 1

    asyncio.run(together(server, 100, seconds, work))
    return count, faults


def canceled(server: Server, count: int) -> list[float]:
    """Seconds of cancels of running jobs, until the answer says so; some in the generator, most at the mesh."""
    seconds = []
    with Client(server.base) as client:
        for _ in range(count):
            job = client.submit(fresh(), **HEAVY)
            while client.job(job).status == "queued":
                time.sleep(0.01)
            time.sleep(random.uniform(0, 1.0))
            began = time.perf_counter()
            ended = client.cancel(job)
            if ended.status == "canceled":
                seconds.append(time.perf_counter() - began)
    return seconds


def machine() -> str:
    """What these numbers are of."""
    cpu = next(
        (line.split(": ")[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?"
    )
    load = os.getloadavg()[0]
    return f"{len(os.sched_getaffinity(0))} cores of {cpu}, Python {platform.python_version()}, load before {load:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300, help="of the hundred clients; the others take a fifth")
    parser.add_argument("--count", type=int, default=20, help="requests alone, and cancels")
    parser.add_argument("--quick", action="store_true", help="--seconds 15 --count 5")
    given = parser.parse_args()
    seconds, count = (15.0, 5) if given.quick else (given.seconds, given.count)
    part = max(8.0, seconds / 5)
    print(machine(), flush=True)
    rows: list[tuple[str, str, str, bool | None]] = []

    def row(what: str, target: str, measured: str, good: bool | None = None) -> None:
        rows.append((what, target, measured, good))
        print(f"{what}: {measured}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as data:
        server = Server(data)
        try:
            row("start until ready", "", f"{server.start():.1f} s")
            first, again, cost, own = alone(server, count)
            row("a first request, alone", "", f"{first:.3f} s, {cost:.3f} CPU-seconds, {own:.3f} of the web process")
            row("first / repeated", ">= 20", f"{first / again:.0f} ({1000 * again:.1f} ms)", first / again >= 20)
            cores = len(os.sched_getaffinity(0))
            peak, load = saturated(server, part)
            bound = 0.8 * cores / cost
            row(
                "distinct prompts, saturated",
                f">= {bound:.2f}/s",
                f"{peak:.2f}/s; the load took {load:.2f} cores",
                peak >= bound,
            )
            over = overloaded(server, OVERLOAD * peak, part)
            goodput = over.goodput / peak
            row(
                f"goodput at {OVERLOAD}x / peak",
                ">= 0.95",
                f"{goodput:.2f}; {over.refused:.0%} refused; the load took {over.load:.2f} cores",
                goodput >= 0.95,
            )
            row("event loop late, p99", "<= 50 ms", f"<= {1000 * over.lag:.0f} ms", over.lag <= 0.05)
            row("GET /health/live meanwhile, p99", "", f"{1000 * over.live:.0f} ms")
            answers, faults = crowd(server, seconds)
            row(f"100 clients, {seconds:.0f} s", "0 wrong or lost", f"{len(faults)} of {answers}", not faults)
            cancels = share(canceled(server, count), 0.95)
            row("cancel of a running job, p95", "<= 2 s", f"{cancels:.3f} s", cancels <= 2)
            server.stop(signal.SIGKILL)
            recovery = server.start()
            row("killed, until ready again", "<= 10 s", f"{recovery:.1f} s", recovery <= 10)
        finally:
            server.stop(signal.SIGTERM)
    print("\n| what | target | measured | |\n|---|---|---|---|")
    for what, target, measured, good in rows:
        print(f"| {what} | {target} | {measured} | {'' if good is None else 'yes' if good else 'no'} |")
    print(*map(json.dumps, faults[:10]), sep="\n")


if __name__ == "__main__":
    main()
