"""Numbers that change over training: piecewise linear in steps, in epochs, or in the fraction of the run."""

import bisect
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, model_validator

from scaledreamer.config import Config


class Schedule(Config):
    """Linear between knots of (position, value), constant before the first and after the last."""

    knots: tuple[tuple[float, float], ...]
    unit: Literal["step", "epoch", "run"] = "run"  # run: 0 at the first step, 1 at the last

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        positions = [position for position, _ in self.knots]
        if not positions or positions != sorted(positions):
            raise ValueError(f"knots must be at least one and in order, not {self.knots}")
        return self

    def at(self, step: int, steps: int = 1, epoch: int = 0) -> float:
        """The value at an optimiser step of a run of `steps`."""
        position = {"step": step, "epoch": epoch, "run": step / max(1, steps)}[self.unit]
        right = bisect.bisect_right([knot for knot, _ in self.knots], position)
        if right == 0:
            return self.knots[0][1]
        if right == len(self.knots):
            return self.knots[-1][1]
        (start, low), (end, high) = self.knots[right - 1 : right + 1]
        return low + (high - low) * ((position - start) / (end - start))


def constant(value: float) -> Schedule:
    """The same number for ever."""
    return Schedule(knots=((0.0, value),))


def official(spec: Sequence[float]) -> Schedule:
    """A schedule in threestudio's list form: [v0, v1, end], [start, v0, v1, end] or [start, v0, v1, e1, v2, e2, ...].

    An integer end counts optimiser steps, a float end counts epochs.
    """
    if len(spec) == 3:
        spec = [0, *spec]
    if len(spec) < 4 or len(spec) % 2:
        raise ValueError(
            f"{list(spec)} is no schedule; write a number, [v0, v1, end] or [start, v0, v1, end, v2, end2]"
        )
    start, first, *rest = spec
    knots = [(float(start), float(first))]
    knots += [(float(end), float(value)) for value, end in zip(rest[::2], rest[1::2], strict=True)]
    return Schedule(knots=tuple(knots), unit="step" if isinstance(spec[-1], int) else "epoch")


def _read(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{value} is no number")
    if isinstance(value, int | float):
        return constant(float(value))
    if isinstance(value, list | tuple):
        return official(value)
    return value


# In a config: a number, an official list, or {knots: [[0, 0.6], [0.7, 0.2]]} over the run.
Scheduled = Annotated[Schedule, BeforeValidator(_read)]
