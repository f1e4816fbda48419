"""How files name the program that wrote them."""

from importlib.metadata import PackageNotFoundError, version


def generator() -> str:
    """`ScaleDreamer <version>`."""
    try:
        return f"ScaleDreamer {version('scaledreamer')}"
    except PackageNotFoundError:  # run from a source tree that was not installed
        return "ScaleDreamer (source tree)"
