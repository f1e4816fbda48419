"""The client for programs without an event loop: the asynchronous one over a wire that blocks, so never suspends."""

import time
from collections.abc import AsyncGenerator, Awaitable, Collection, Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from scaledreamer.client.asynchronous import DAY, LOCAL, Calls, signed
from scaledreamer.client.values import Event, Job, Model

Answer = TypeVar("Answer")


class BlockingWire:
    """Blocks."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    async def send(self, request: httpx.Request) -> httpx.Response:
        return self.http.send(request, stream=True)

    async def chunks(self, answer: httpx.Response) -> AsyncGenerator[bytes]:
        for chunk in answer.iter_bytes():
            yield chunk

    async def close(self, answer: httpx.Response) -> None:
        answer.close()

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)


class Client:
    """One server. Every method raises ServerError, after as many attempts as `patience` (seconds) allows.

    Attempts are made again on broken connections, 502, and 429 and 503 with `Retry-After`; a job is never made twice.
    """

    def __init__(
        self, base_url: str = LOCAL, key: str | None = None, *, timeout: float = 60.0, patience: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        self.http = httpx.Client(base_url=base_url, headers=signed(key), timeout=timeout, transport=transport)
        self.calls = Calls(self.http, BlockingWire(self.http), patience)

    def generate(self, prompt: str, *, wait: float = 600.0, **fields: Any) -> Job:
        """A job that has succeeded; `fields` are those of a request: preset, formats, faces, … Raises TimeoutError."""
        return run(self.calls.generate(prompt, wait=wait, **fields))

    def submit(self, prompt: str, *, idempotency_key: str | None = None, **fields: Any) -> Job:
        """A job that may wait; the same key gives the same job for a day."""
        return run(self.calls.submit(prompt, idempotency_key=idempotency_key, **fields))

    def export(self, job: Job | str, *, idempotency_key: str | None = None, **fields: Any) -> Job:
        """A new job, which may wait, for other files from the field of an earlier one."""
        return run(self.calls.export(job, idempotency_key=idempotency_key, **fields))

    def wait(self, job: Job | str, seconds: float = DAY) -> Job:
        """The job when it has ended, however it did. Raises TimeoutError."""
        return run(self.calls.wait(job, seconds))

    def job(self, job: Job | str) -> Job:
        """The job as it is now."""
        return run(self.calls.job(job))

    def jobs(self, status: str | None = None, limit: int | None = None) -> Generator[Job]:
        """Your jobs, the newest first, page after page."""
        return each(self.calls.jobs(status, limit))

    def cancel(self, job: Job | str) -> Job:
        """The job, which has ended now."""
        return run(self.calls.cancel(job))

    def delete(self, job: Job | str) -> None:
        """Cancel and erase; one that is not there any more is no error."""
        run(self.calls.delete(job))

    def models(self) -> list[Model]:
        """What the server runs."""
        return run(self.calls.models())

    def ready(self) -> bool:
        """Whether a job sent now would run; asked once."""
        return run(self.calls.ready())

    def progress(self, job: Job | str) -> Generator[Event]:
        """What happens to a job until it ends; a connection that breaks is taken up where it was."""
        return each(self.calls.progress(job))

    def download(
        self, job: Job | str, folder: Path | str, *, roles: Collection[str] | None = None,
        formats: Collection[str] | None = None,
    ) -> list[Path]:  # fmt: skip
        """Files of these roles and formats (all but the zip of them) in a folder, each checked and whole."""
        return run(self.calls.download(job, folder, roles=roles, formats=formats))

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run(call: Awaitable[Answer]) -> Answer:
    """The result of a call that never suspends."""
    try:
        next(iter(call.__await__()))
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    raise AssertionError("a call over a blocking wire has waited")


def each(values: AsyncGenerator[Answer]) -> Generator[Answer]:
    """The values, one after the other."""
    try:
        while True:
            try:
                value = run(anext(values))
            except StopAsyncIteration:
                return
            yield value
    finally:
        run(values.aclose())
