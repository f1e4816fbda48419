"""A request body as a JSON object: bounded in bytes, time and depth, and read whatever its content type says."""

import asyncio
import json
import math
import re
from typing import Any

from starlette.requests import ClientDisconnect, Request

from scaledreamer.server.problems import FieldFault, ProblemError, pointer, shorten

MAX_DEPTH = 16
MAX_DIGITS = 40  # of one integer


async def read_object(request: Request, max_bytes: int, seconds: float) -> dict[str, Any]:
    """`curl -d '{...}'` declares a form; what counts is the text, so the content type is not asked."""
    try:
        async with asyncio.timeout(seconds):
            body = await _read(request, max_bytes)
    except TimeoutError as error:
        raise ProblemError("request-timeout", f"the body did not arrive within {seconds:g} seconds") from error
    except ClientDisconnect as error:  # nobody reads the answer; the log has a line and no trace
        raise ProblemError("bad-request", "the body broke off") from error
    return parse_object(body)


async def _read(request: Request, max_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    size = int(declared) if declared.isascii() and declared.isdigit() else 0
    chunks: list[bytes] = []
    if size <= max_bytes:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                break
            chunks.append(chunk)
    if size > max_bytes:
        detail = f"the body has more than {max_bytes} bytes; a prompt has at most 1000 characters"
        # The rest is not read, so the connection cannot be used again.
        headers = {"connection": "close"}
        raise ProblemError("body-too-large", detail, errors=[FieldFault(field="body", detail=detail)], headers=headers)
    return b"".join(chunks)


def parse_object(body: bytes) -> dict[str, Any]:
    """Strict JSON: no duplicate keys, no NaN, no number beyond a double, at most 16 levels, an object outside."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed(f"the body is not UTF-8 (byte {error.start} is 0x{body[error.start]:02x})") from error
    if not text.strip():
        raise malformed('the body is empty; send JSON such as {"prompt": "a red wooden barrel"}')
    if _depth(text) > MAX_DEPTH:
        raise malformed(f"the body is nested deeper than {MAX_DEPTH} levels")
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_constant, parse_float=_float, parse_int=_int
        )
    except json.JSONDecodeError as error:
        detail = f'{error.msg} at line {error.lineno}, column {error.colno}; send JSON such as {{"prompt": "a barrel"}}'
        raise malformed(detail) from error
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(type(value), "a number")
        detail = f'the body is {kind}; send an object such as {{"prompt": "a red wooden barrel"}}'
        raise ProblemError("invalid-request", detail, errors=[FieldFault(pointer="", field="body", detail=detail)])
    return value


def malformed(detail: str, key: str | None = None) -> ProblemError:
    """The problem of a body that is not the JSON it should be."""
    fault = FieldFault(pointer=pointer(key) if key else "", field=key or "body", detail=detail)
    return ProblemError("malformed-json", detail, errors=[fault])


def _depth(text: str) -> int:
    depth = deepest = 0
    for bracket in re.findall(r"[\[{}\]]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if any("\ud800" <= character <= "\udfff" for character in key):
            raise malformed(f"the key {shorten(key)} holds half of a surrogate pair; send well-formed Unicode")
        if key in value:
            raise malformed(f"the key {shorten(key)} appears twice", key[:80])
        value[key] = item
    return value


def _constant(name: str) -> float:
    raise malformed(f"{name} is not JSON; send a finite number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise malformed(f"the number {shorten(text)} is too large")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise malformed(f"the number {shorten(text)} has more than {MAX_DIGITS} digits")
    return int(text)
