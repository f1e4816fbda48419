"""How files name the program that wrote them."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache  # asked in every request, and the answer is on the disk
def generator() -> str:
    """`ScaleDreamer <version>`."""
    try:
        return f"ScaleDreamer {version('scaledreamer')}"
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "ScaleDreamer (source tree)"
