"""The client for asyncio, and all that a client knows of the API. `blocking.Client` runs the same code."""

import asyncio
import hashlib
import itertools
import json
import os
import random
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote

import httpx

from scaledreamer.client.values import Event, File, Job, Model, ServerError, known

LOCAL = "http://127.0.0.1:8000"
DAY = 86400.0
LONG_POLL = 20.0  # seconds that the server is asked to hold an answer back, at most
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0  # seconds before another attempt: doubled each time, then jittered


class Wire(Protocol):
    """What touches the network and the clock."""

    async def send(self, request: httpx.Request) -> httpx.Response: ...
    def chunks(self, answer: httpx.Response) -> AsyncGenerator[bytes]: ...
    async def close(self, answer: httpx.Response) -> None: ...
    async def pause(self, seconds: float) -> None: ...


class AsyncWire:
    """Awaits."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def send(self, request: httpx.Request) -> httpx.Response:
        return await self.http.send(request, stream=True)

    async def chunks(self, answer: httpx.Response) -> AsyncGenerator[bytes]:
        async for chunk in answer.aiter_bytes():
            yield chunk

    async def close(self, answer: httpx.Response) -> None:
        await answer.aclose()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Calls:
    """Every call, over any wire. `patience`: seconds that the attempts at one request may take together."""

    def __init__(self, http: httpx.Client | httpx.AsyncClient, wire: Wire, patience: float) -> None:
        self.build, self.wire, self.patience, self.now = http.build_request, wire, patience, time.monotonic
        self.hold = min(LONG_POLL, (http.timeout.read or DAY) / 2)

    @property
    def ends(self) -> float:
        """When patience is over, for a request that begins now."""
        return self.now() + self.patience

    async def generate(self, prompt: str, *, wait: float = 600.0, **fields: Any) -> Job:
        """A job that has succeeded; `fields` are those of a request: preset, formats, faces, … Raises TimeoutError."""
        return (await self.wait(await self.submit(prompt, **fields), wait)).check()

    async def submit(self, prompt: str, *, idempotency_key: str | None = None, **fields: Any) -> Job:
        """A job that may wait; the same key gives the same job for a day."""
        return await self.create("/v1/jobs", {"prompt": prompt, **fields}, idempotency_key)

    async def export(self, job: Job | str, *, idempotency_key: str | None = None, **fields: Any) -> Job:
        """A new job, which may wait, for other files from the field of an earlier one."""
        return await self.create(f"{place(job)}/exports", fields, idempotency_key)

    async def create(self, address: str, body: dict[str, Any], idempotency_key: str | None) -> Job:
        """A new job; with its key, an attempt whose answer was lost makes no second one."""
        headers = {"idempotency-key": idempotency_key or str(uuid.uuid4())}
        return Job.read(await self.ask("POST", address, json=body, headers=headers))

    async def wait(self, job: Job | str, seconds: float = DAY) -> Job:
        """The job when it has ended, however it did. Raises TimeoutError."""
        ends = self.now() + seconds
        while True:
            asked = self.now()
            prefer = f"wait={min(self.hold, max(0.0, ends - asked)):.3f}"
            found = Job.read(await self.ask("GET", place(job), headers={"prefer": prefer}))
            if found.ended:
                return found
            if self.now() >= ends:
                raise TimeoutError(f"job {found.id} is {found.status} after {seconds:g} seconds; wait for it again")
            took = self.now() - asked
            await self.wire.pause(max(0.0, min(1.0, ends - asked) - took))  # a server need not hold it back

    async def job(self, job: Job | str) -> Job:
        """The job as it is now."""
        return Job.read(await self.ask("GET", place(job)))

    async def jobs(self, status: str | None = None, limit: int | None = None) -> AsyncGenerator[Job]:
        """Your jobs, the newest first, page after page."""
        left, cursor = limit, None
        while left is None or left > 0:
            asked = {"status": status, "cursor": cursor, "limit": min(100, 100 if left is None else left)}
            params = {name: value for name, value in asked.items() if value is not None}
            page = await self.ask("GET", "/v1/jobs", params=params)
            for job in page["jobs"]:
                yield Job.read(job)
            cursor, left = page["next"], left and left - len(page["jobs"])
            if cursor is None:
                return

    async def cancel(self, job: Job | str) -> Job:
        """The job, which has ended now."""
        return Job.read(await self.ask("POST", f"{place(job)}/cancel"))

    async def delete(self, job: Job | str) -> None:
        """Cancel and erase; one that is not there any more is no error."""
        try:
            await self.ask("DELETE", place(job))
        except ServerError as error:
            if error.code != "job-not-found":  # an attempt whose answer was lost may have deleted it
                raise

    async def models(self) -> list[Model]:
        """What the server runs."""
        return [known(Model, model, raw=model) for model in (await self.ask("GET", "/v1/models"))["models"]]

    async def ready(self) -> bool:
        """Whether a job sent now would run; asked once."""
        try:
            answer = await self.wire.send(self.build("GET", "/health/ready"))
        except httpx.TransportError:
            return False
        await self.wire.close(answer)
        return answer.is_success

    async def progress(self, job: Job | str) -> AsyncGenerator[Event]:
        """What happens to a job until it ends; a connection that breaks is taken up where it was."""
        last, quiet = 0, 0
        while True:
            quiet += 1
            try:
                resumed, rest = {"last-event-id": str(last)}, b""
                async with self.open("GET", f"{place(job)}/events", self.ends, headers=resumed) as chunks:
                    async for chunk in chunks:
                        *blocks, rest = (rest + chunk).split(b"\n\n")
                        for event in filter(None, map(Event.read, blocks)):
                            last, quiet = event.number, 0
                            yield event
                            if event.last:
                                return
            except httpx.TransportError:
                pass
            await self.wire.pause(pause(quiet))

    async def download(
        self, job: Job | str, folder: Path | str, *, roles: Collection[str] | None = None,
        formats: Collection[str] | None = None,
    ) -> list[Path]:  # fmt: skip
        """Files of these roles and formats (all but the zip of them) in a folder, each checked and whole."""
        found = (job if isinstance(job, Job) else await self.job(job)).check()
        wanted = [file for file in found.files if chosen(file, roles, formats)]
        Path(folder).mkdir(parents=True, exist_ok=True)
        for file in wanted:
            await self.fetch(found, file, Path(folder))
        return [Path(folder, file.name) for file in wanted]

    async def fetch(self, job: Job, file: File, folder: Path) -> None:
        """A file as its job says, or none."""
        if Path(file.name).name != file.name or file.name.startswith(".") or not file.name:
            raise ServerError("bad-file-name", f"the server names a file {file.name!r:.80}; it is not written")
        part = folder / f".{file.name}.{secrets.token_hex(4)}.part"
        ends = self.ends
        try:
            for attempt in itertools.count():
                digest = hashlib.sha256()
                try:
                    async with self.open("GET", f"{place(job)}/files/{quote(file.name)}", ends) as chunks:
                        with part.open("wb") as target:
                            async for chunk in chunks:
                                digest.update(chunk)
                                target.write(chunk)
                            target.flush()
                            os.fsync(target.fileno())
                    if digest.hexdigest() == file.sha256:
                        part.replace(folder / file.name)
                        return
                    problem = ServerError("bad-download", f"{file.name} has not the sha256 that its job says")
                except httpx.TransportError as error:
                    problem = unreachable(error)
                await self.later(problem, attempt, ends)
        finally:
            part.unlink(missing_ok=True)

    async def ask(self, method: str, address: str, **given: Any) -> Any:
        """The JSON of an answer; None for an empty one."""
        ends = self.ends
        for attempt in itertools.count():
            try:
                async with self.open(method, address, ends, **given) as chunks:
                    body = b"".join([chunk async for chunk in chunks])
                return json.loads(body) if body else None
            except httpx.TransportError as error:  # in the middle of the answer
                await self.later(unreachable(error), attempt, ends)

    @asynccontextmanager
    async def open(self, method: str, address: str, ends: float, **given: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of an answer, after as many attempts as there is time for. Every request may be made twice."""
        for attempt in itertools.count():
            try:
                answer = await self.wire.send(self.build(method, address, **given))
            except httpx.TransportError as error:
                await self.later(unreachable(error), attempt, ends)
                continue
            try:
                async with aclosing(self.wire.chunks(answer)) as chunks:
                    if answer.is_success:
                        yield chunks
                        return
                    body = b"".join([chunk async for chunk in chunks])
            finally:
                await self.wire.close(answer)
            await self.later(ServerError.read(answer, body), attempt, ends)

    async def later(self, problem: ServerError, attempt: int, ends: float) -> None:
        """A pause before the next attempt. Raises the problem itself where it does not pass, or time is over."""
        passes = problem.status in (None, 502) or (problem.status in (429, 503) and problem.retry_after is not None)
        seconds = pause(attempt, problem.retry_after or 0.0)
        if not passes or self.now() + seconds > ends:
            raise problem
        await self.wire.pause(seconds)


class AsyncClient(Calls):
    """One server, for asyncio; `Client` says how it behaves."""

    def __init__(
        self, base_url: str = LOCAL, key: str | None = None, *, timeout: float = 60.0, patience: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        self.http = httpx.AsyncClient(base_url=base_url, headers=signed(key), timeout=timeout, transport=transport)
        super().__init__(self.http, AsyncWire(self.http), patience)

    async def close(self) -> None:
        """Close the connections."""
        await self.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def signed(key: str | None) -> dict[str, str]:
    """The headers that say whose a request is."""
    return {"authorization": f"Bearer {key}"} if key else {}


def place(job: Job | str) -> str:
    """The address of a job."""
    return f"/v1/jobs/{quote(job if isinstance(job, str) else job.id, safe='')}"


def chosen(file: File, roles: Collection[str] | None, formats: Collection[str] | None) -> bool:
    """Whether a file is asked for; the zip that holds the others only by its name."""
    if roles is None and formats is None:
        return file.role != "bundle"
    return (roles is None or file.role in roles) and (formats is None or file.format in formats)


def pause(attempt: int, least: float = 0.0) -> float:
    """Seconds before the next attempt: growing, and spread so that clients do not come back all at once."""
    return least + random.uniform(0.5, 1.0) * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt, 16))


def unreachable(error: httpx.TransportError) -> ServerError:
    """No answer, or half of one. Raises where another attempt would be no better."""
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        raise ServerError("bad-address", f"{error}; an address is like {LOCAL}") from error
    return ServerError("unreachable", f"{type(error).__name__}: {error}")
