"""Numbers that change over training: piecewise linear in steps, in epochs, or in the fraction of the run."""

import bisect
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
        if len(self.knots) == 1:
            return self.knots[0][1]
        right = bisect.bisect_right([knot for knot, _ in self.knots], position)
        right = min(max(right, 1), len(self.knots) - 1)
        return between(*self.knots[right - 1], *self.knots[right], position)


def constant(value: float) -> Schedule:
    """The same number for ever."""
    return Schedule(knots=((0.0, value),))


class OfficialSchedule(Config):
    """threestudio's list form: [v0, v1, end], [start, v0, v1, end] or [start, v0, v1, e1, v2, e2, ...].

    A segment begins at a step; it runs in optimiser steps where its end is an integer, in epochs where that is a float.
    """

    spec: tuple[int | float, ...]

    @model_validator(mode="after")
    def _has_whole_segments(self) -> Self:
        if len(self.spec) < 3 or (len(self.spec) > 3 and len(self.spec) % 2):
            raise ValueError(
                f"{list(self.spec)} is no schedule; write a number, [v0, v1, end] or [start, v0, v1, end, v2, end2]"
            )
        return self

    def at(self, step: int, steps: int = 1, epoch: int = 0) -> float:
        """The value at an optimiser step; how many there will be does not matter."""
        start, first, *rest = self.spec if len(self.spec) > 3 else (0, *self.spec)
        low, high, end = first, rest[0], rest[1]
        for value, later in zip(rest[2::2], rest[3::2], strict=True):
            if end <= step:
                start, low, high, end = end, high, value, later
        return between(start, low, end, high, step if isinstance(end, int) else epoch)


def between(start: float, low: float, end: float, high: float, position: float) -> float:
    """low + (high - low) clip((position - start) / (end - start), 0, 1); a jump is behind us once it is reached."""
    passed = (position - start) / (end - start) if end != start else float(position >= end)
    return low + (high - low) * min(max(passed, 0.0), 1.0)


def _read(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{value} is no number")
    if isinstance(value, int | float):
        return constant(float(value))
    if isinstance(value, list | tuple):
        return {"spec": value}
    return value


# In a config: a number, an official list, or {knots: [[0, 0.6], [0.7, 0.2]]} over the run.
AnySchedule = Schedule | OfficialSchedule
Scheduled = Annotated[AnySchedule, BeforeValidator(_read)]
