"""Who asks: the key of a request, what it opens, and whose jobs it sees."""

import ipaddress
import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from scaledreamer.server.keys import PREFIX, Key, digest_of, list_keys
from scaledreamer.server.ledger import Ledger
from scaledreamer.server.problems import ProblemError
from scaledreamer.server.security import SAFE_METHODS

OPEN = {"/", "/docs", "/openapi.json", "/health/live", "/health/ready"}  # and what the pages load
OPEN_FOLDERS = "/web/", "/problems/"
FRESH_SECONDS = 1.0  # in which a running server notices a new or a revoked key


class KeyRing:
    """The keys that open something, as a running server knows them. Its methods run on the event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.by_digest: dict[str, Key] = {}
        self.read_at = float("inf")  # not before the store is open

    async def read(self) -> None:
        """Look at the table again; where it cannot be read now, what was known stays."""
        self.read_at = time.monotonic()
        with suppress(sqlite3.Error):
            self.hold(await self.ledger.ask(list_keys, self.ledger.store.connection))

    def hold(self, keys: Iterable[Key]) -> None:
        """These, without the revoked ones."""
        self.by_digest = {key.digest: key for key in keys if key.revoked is None}

    async def fresh(self) -> dict[str, Key]:
        """The keys by their digest, as they were a second ago at the longest."""
        if time.monotonic() - self.read_at > FRESH_SECONDS:
            await self.read()
        return self.by_digest


class Auth:
    """ASGI middleware. Once there is a key, nothing but probes and pages answers without one.

    Without keys everybody is the owner "", which only a server that no other machine reaches allows.
    """

    def __init__(self, app: ASGIApp, keys: KeyRing, host: str) -> None:
        self.app, self.keys = app, keys
        self.always = not is_loopback(host)  # also when the last key has been revoked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_open(scope["path"]):
            try:
                owner = await self.owner(scope["method"], Headers(scope=scope))
            except ProblemError as problem:
                return await problem.response(scope["path"])(scope, receive, send)
            scope.setdefault("state", {})["owner"] = owner
        await self.app(scope, receive, send)

    async def owner(self, method: str, headers: Headers) -> str:
        """Whose jobs the request is about. Raises a 401 or a 403."""
        keys = await self.keys.fresh()
        if not keys and not self.always:
            return ""
        secret = secret_of(headers)
        if secret is None:
            detail = f"send a key as 'Authorization: Bearer {PREFIX}…' or 'X-API-Key: {PREFIX}…'"
            detail += "; who runs this server makes one with `scaledreamer keys create NAME`"
            raise ProblemError("unauthenticated", detail, headers={"www-authenticate": "Bearer"})
        key = keys.get(digest_of(secret))
        if key is None:
            headers_ = {"www-authenticate": 'Bearer error="invalid_token"'}
            raise ProblemError("unauthenticated", "this key is unknown here or has been revoked", headers=headers_)
        check_scope(key, method)
        return key.name


def check_scope(key: Key, method: str) -> None:
    """Whatever is safe needs no more than `read`."""
    if method not in SAFE_METHODS and key.scope != "generate":
        detail = f"this key may look ({key.scope}) and not start, cancel or delete; that takes the scope generate"
        bearer = 'Bearer error="insufficient_scope", scope="generate"'
        raise ProblemError("forbidden", detail, headers={"www-authenticate": bearer})


def secret_of(headers: Headers) -> str | None:
    """The key that a request carries."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    secret = given.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()
    return secret or None


def is_open(path: str) -> bool:
    """Whether an address answers everybody."""
    return path in OPEN or path.startswith(OPEN_FOLDERS)


def is_loopback(host: str) -> bool:
    """Whether no other machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
