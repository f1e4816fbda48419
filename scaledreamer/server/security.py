"""What a browser may do to a local server: host names, origins, and headers on every answer."""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scaledreamer.server.problems import ProblemError
from scaledreamer.server.settings import Settings

LOCAL = ("localhost", "127.0.0.1", "[::1]")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}


class Guard:
    """ASGI middleware that checks Host and Origin.

    A page that rebinds its own name to this machine fails at the host; one that posts a form to it fails at the origin.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.hosts = {*LOCAL, _bracketed(settings.host.lower()), *(host.lower() for host in settings.allowed_hosts)}
        self.any_address = _is_wildcard(settings.host)
        self.origins = {origin.rstrip("/").lower() for origin in settings.allowed_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        try:
            self.check(scope["method"], headers)
        except ProblemError as problem:
            return await problem.response(scope["path"])(scope, receive, guarded)
        await self.app(scope, receive, guarded)

    def check(self, method: str, headers: Headers) -> None:
        """Raise a problem when the request is for another name, or posted by another site."""
        authority = headers.get("host", "").lower()
        name = _name(authority)
        if "*" not in self.hosts and name not in self.hosts and not (self.any_address and _is_address(name)):
            detail = f"the host {authority!r:.80} is not served here; to serve it, set SCALEDREAMER_ALLOWED_HOSTS"
            raise ProblemError("host-not-allowed", f'{detail}, for example to ["{name[:60]}"]')
        origin = headers.get("origin")
        if method in SAFE_METHODS or origin is None or origin.lower() in self.origins:
            return
        if urlsplit(origin.lower()).netloc != authority:
            detail = f"a page of {origin!r:.80} may not post here; to let it, set SCALEDREAMER_ALLOWED_ORIGINS"
            raise ProblemError("origin-not-allowed", detail)


def _name(authority: str) -> str:
    """The host without its port; an IPv6 address keeps its brackets."""
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _is_wildcard(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_unspecified
