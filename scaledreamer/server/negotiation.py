"""What the client asks for in headers: `Accept` and `Prefer`."""

import re

from scaledreamer.server.problems import ProblemError

OFFERED = {
    "application/json": "json",
    "model/gltf-binary": "glb",
    "model/obj": "obj",
    "model/stl": "stl",
    "application/zip": "zip",
}


def accepted(header: str) -> str:
    """The best of 'json', 'glb', 'obj', 'stl', 'zip' for an Accept header; JSON wins a draw and a wildcard."""
    if not header.strip():
        return "json"
    best, best_quality = "", 0.0
    for offer, name in OFFERED.items():
        quality = _quality(header, offer)
        if quality > best_quality:
            best, best_quality = name, quality
    if not best:
        raise ProblemError("not-acceptable", f"{header!r:.80} cannot be sent; accept one of {', '.join(OFFERED)}")
    return best


def _quality(header: str, offer: str) -> float:
    """The q of the most specific range that fits (RFC 9110, 12.5.1)."""
    ranges = [offer, offer.partition("/")[0] + "/*", "*/*"]
    found: dict[int, float] = {}
    for part in header.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        if media in ranges:
            weights = [p[2:] for p in parameters if p.startswith("q=")]
            found[ranges.index(media)] = _number(weights[0], 1.0) if weights else 1.0
    return found[min(found)] if found else 0.0


def preferred_wait(headers: list[str], limit: float) -> float:
    """Seconds to wait for the job: `wait=N` up to the limit, 0 for `respond-async` alone (RFC 7240)."""
    preferences: dict[str, str] = {}
    for part in ",".join(headers).split(","):
        name, _, value = part.partition(";")[0].partition("=")
        preferences.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = _number(preferences.get("wait", ""), -1.0)
    if wait >= 0:
        return min(wait, limit)
    return 0.0 if "respond-async" in preferences else limit


def _number(text: str, otherwise: float) -> float:
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d{0,9})?", text, re.ASCII) else otherwise
