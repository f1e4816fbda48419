"""Official schedules, step ranges and shifted timesteps, exactly."""

import json

import pytest
import torch
from fixtures import PARITY
from pydantic import TypeAdapter

from scaledreamer.training.priors.process import scaled_linear
from scaledreamer.training.schedules import Schedule, Scheduled

CASES = json.loads((PARITY / "schedules.json").read_text())
SCHEDULE: TypeAdapter[Schedule] = TypeAdapter(Scheduled)


@pytest.mark.parametrize("case", CASES["C"], ids=lambda case: f"{case['spec']}@{case['global_step']}")
def test_scheduled_numbers_equal_the_official_ones(case: dict[str, float]) -> None:
    schedule = SCHEDULE.validate_python(case["spec"])
    assert schedule.at(case["global_step"], epoch=case["epoch"]) == pytest.approx(case["value"], rel=1e-15, abs=1e-15)


def test_step_windows_equal_the_official_ones() -> None:
    low = SCHEDULE.validate_python([0, 0.5, 0.02, 50000])
    high = SCHEDULE.validate_python([0, 0.98, 0.5, 50000])
    for case in CASES["min_max_steps"]:
        step = case["global_step"]
        assert int(1000 * low.at(step)) == case["min_step"], step
        assert int(1000 * high.at(step)) == case["max_step"], step


@pytest.mark.parametrize("case", CASES["t_plus"], ids=lambda c: f"{c['plus_ratio']}-{c['min_step']}-{c['u']}")
def test_shifted_timesteps_equal_the_official_ones(case: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    process, t = scaled_linear(), torch.tensor(case["t"])
    rng = None
    if case["u"] is not None:
        rng = torch.Generator()
        monkeypatch.setattr(torch, "rand", lambda shape, generator: torch.full(shape, case["u"]))
    shifted = process.shift(t, case["plus_ratio"], case["min_step"], rng)
    assert shifted.tolist() == case["t_plus"]
