"""File and object names made of prompts: plain ASCII that no engine reads as an instruction."""

import hashlib
import re
import unicodedata
from collections.abc import Container
from itertools import count

from scaledreamer.errors import ExportError

LIMIT = 48  # characters of a name
LEAST = 16  # what the longest ending and a few letters need
APOSTROPHES = re.compile(r"['\u2018\u2019\u02bc]")

# Godot drops the digits at the end of a name and then acts on these, after a "-", "$" or "_" and in either case
# (_teststr in its resource_importer_scene.cpp, and its manual's page "Node type customization using name suffixes").
GODOT = "col|convcol|colonly|convcolonly|navmesh|occ|occonly|vehicle|wheel|rigid|noimp|loop|cycle|vcol|alpha"
UNITY = r"lod\d+"  # a level of detail, also for Unreal
BLENDER = r"\d{3}"  # a copy: "barrel.001"
ENDING = re.compile(rf"(?:^|-)(?:(?:{GODOT})\d*|{UNITY}|{BLENDER})$")
UNREAL = re.compile(r"(?:ucx|ubx|usp|ucp|mcdcx)(?:-|$)")  # collision shapes by their first letters
WINDOWS = re.compile(r"con|prn|aux|nul|(?:com|lpt)\d")  # devices, whatever the suffix of the file


def slug(prompt: str, limit: int = LIMIT) -> str:
    """The prompt as 1 to `limit` characters of [a-z0-9-] that neither begin nor end with "-".

    Letters lose their marks; what has no ASCII form falls away. An engine's suffix or prefix and a device of Windows
    are made harmless by the word "asset". A slug is its own slug.
    """
    if limit < LEAST:
        raise ExportError(f"cannot fit names into {limit} characters; at least {LEAST} are needed")
    decomposed = unicodedata.normalize("NFKD", APOSTROPHES.sub("", prompt.casefold()))
    kept = (c for c in decomposed if c.isascii() or unicodedata.category(c)[0] not in "LMN")  # other signs divide words
    words = re.findall("[a-z0-9]+", "".join(kept).lower())
    if not words:
        return f"asset-{hashlib.sha1(prompt.encode('utf-8', 'replace'), usedforsecurity=False).hexdigest()[:8]}"
    name = "-".join(words)
    name = cut(f"asset-{name}" if UNREAL.match(name) else name, limit)
    return name if harmless(name) else cut(name, limit - len("-asset")) + "-asset"


def unique(name: str, taken: Container[str]) -> str:
    """The name, or the first of name-2, name-3, … that is not taken; as harmless and as short as a slug."""
    if name not in taken:
        return name
    limit = max(LIMIT, len(name))
    numbered = (f"{cut(name, limit - len(str(i)) - 1)}-{i}" for i in count(2))
    return next(candidate for candidate in numbered if candidate not in taken and harmless(candidate))


def harmless(name: str) -> bool:
    """Whether no engine reads the end of the name, and Windows the whole of it, as something else."""
    return not (ENDING.search(name) or WINDOWS.fullmatch(name))


def cut(name: str, limit: int) -> str:
    """At most `limit` characters, between two words where that keeps half of them."""
    if len(name) <= limit:
        return name
    border = name.rfind("-", 0, limit + 1)
    return name[: border if border >= limit / 2 else limit].strip("-")
