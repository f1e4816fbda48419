"""How often a key may start jobs: a token bucket each, told in the RateLimit fields."""

import math
import re
import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scaledreamer.server.problems import ProblemError

STARTS = re.compile(r"/generate|/v1/jobs|/v1/jobs/[^/]+/exports")  # POST there starts a job


class Bucket:
    """Holds up to `burst` tokens and gets `rate` of them a second."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self.rate, self.burst, self.tokens, self.now = rate, burst, float(burst), now

    def take(self, now: float) -> bool:
        """One token, if there is one."""
        self.tokens = min(self.burst, self.tokens + self.rate * max(0.0, now - self.now))
        self.now = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    @property
    def pause(self) -> int:
        """Whole seconds until there is a token."""
        return max(1, math.ceil((1 - self.tokens) / self.rate))

    def fields(self) -> dict[str, str]:
        """The policy, and what is left of it (draft-ietf-httpapi-ratelimit-headers-10); full again after t seconds."""
        window, full = math.ceil(self.burst / self.rate), math.ceil((self.burst - self.tokens) / self.rate)
        return {
            "ratelimit-policy": f'"start";q={self.burst};w={window}',
            "ratelimit": f'"start";r={math.floor(self.tokens)};t={full}',
        }


class Limits:
    """ASGI middleware: what would start a job takes a token of its key (of the server where none are used)."""

    def __init__(self, app: ASGIApp, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.app, self.rate, self.burst, self.clock = app, rate, burst, clock
        self.buckets: dict[str, Bucket] = {}  # by owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not STARTS.fullmatch(scope["path"]):
            return await self.app(scope, receive, send)
        now, owner = self.clock(), scope.get("state", {}).get("owner", "")
        bucket = self.buckets.setdefault(owner, Bucket(self.rate, self.burst, now))
        taken = bucket.take(now)
        fields = bucket.fields()

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(fields)
            await send(message)

        if taken:
            return await self.app(scope, receive, told)
        detail = f"{self.rate:g} requests a second may start jobs, {self.burst} at once; wait {bucket.pause} s"
        problem = ProblemError("rate-limited", detail, headers={"retry-after": str(bucket.pause)})
        await problem.response(scope["path"])(scope, receive, told)
