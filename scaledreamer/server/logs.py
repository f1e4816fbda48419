"""A line of JSON for each request and each work that ends; prompts as a hash unless told otherwise."""

import hashlib
import logging
import re
import secrets
import sys
import time
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scaledreamer.server.engine import Watcher, Work
from scaledreamer.server.metrics import Metrics
from scaledreamer.server.records import Failure, Outcome

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
log = structlog.stdlib.get_logger("scaledreamer.server")


def configure(level: str, lines: str) -> None:
    """Write logs of this process to standard error, as JSON or for eyes."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if lines == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger("scaledreamer")
    root.handlers, root.propagate = [handler], False
    root.setLevel(level.upper())


def hashed(prompt: str) -> str:
    """A short name that a prompt always gets."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:12]


class JobLog(Watcher):
    """A line for each work that has ended."""

    def __init__(self, with_prompts: bool) -> None:
        self.with_prompts = with_prompts

    def ended(self, work: Work, result: Outcome | Failure) -> None:
        prompt = work.wanted.prompt
        told = {"prompt": prompt} if self.with_prompts else {"prompt_sha256": hashed(prompt)}
        jobs = list(work.jobs)
        if isinstance(result, Failure):
            log.warning("work failed", jobs=jobs, code=result.code, detail=result.detail, **told)
        else:
            log.info("work done", jobs=jobs, bytes=result.bytes, timings_ms=result.timings_ms, **told)

    def restarted(self, kind: str, reason: str) -> None:
        log.warning("process replaced", kind=kind, reason=reason)


class RequestLog:
    """ASGI middleware: a request has an id (`X-Request-Id`, taken over if well-formed), is counted and logged."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        given = Headers(scope=scope).get("x-request-id", "")
        request = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        began = time.perf_counter()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request
                seconds = time.perf_counter() - began
                route = getattr(scope.get("route"), "path", "none")
                self.metrics.answered(route, message["status"], seconds)
                line = log.error if message["status"] == 500 else log.info  # 503 and 507 say what is so, not a fault
                line(
                    "request", method=scope["method"], route=route, status=message["status"],
                    ms=round(1000 * seconds, 1), owner=scope.get("state", {}).get("owner") or None,
                )  # fmt: skip
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request=request)
        await self.app(scope, receive, noted)
