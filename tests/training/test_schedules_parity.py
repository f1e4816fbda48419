"""Official schedules, step ranges and shifted timesteps, exactly."""

import json

import pytest
import torch
from fixtures import PARITY
from pydantic import TypeAdapter

from scaledreamer.training.priors.process import scaled_linear
from scaledreamer.training.schedules import AnySchedule, Scheduled

CASES = json.loads((PARITY / "schedules.json").read_text())
SCHEDULE: TypeAdapter[AnySchedule] = TypeAdapter(Scheduled)


@pytest.mark.parametrize("case", CASES["C"], ids=lambda case: f"{case['spec']}@{case['global_step']}")
def test_scheduled_numbers_equal_the_official_ones(case: dict[str, float]) -> None:
    schedule = SCHEDULE.validate_python(case["spec"])
    assert schedule.at(case["global_step"], epoch=case["epoch"]) == pytest.approx(case["value"], rel=1e-15, abs=1e-15)


@pytest.mark.parametrize(
    ("spec", "step", "epoch", "value"),
    [
        ([0, 0.1, 0.41, 1000], 1000, 0, 0.1 + (0.41 - 0.1)),  # not 0.41: one less in thousandths
        ([0, 1.0, 2.0, 5.0, 3.0, 10.0], 2, 7, 2.0),  # the segment is chosen by step, and runs in epochs
        ([0, 1.0, 0.5, 10.0, 0.1, 20.0], 50, 4, 0.5),
        ([0, 1.0, 0.5, 10, 0.1, 20.0], 15, 3, 0.5),
        ([100, 0, 1, 50], 70, 0, 0.6),
        ([5, 2.0, 1.0, 5], 4, 0, 2.0),
        ([5, 2.0, 1.0, 5], 5, 0, 1.0),
    ],
)
def test_odd_lists_follow_the_official_rule(spec: list[float], step: int, epoch: int, value: float) -> None:
    schedule = SCHEDULE.validate_python(spec)
    assert schedule.at(step, epoch=epoch) == value
    again = SCHEDULE.validate_json(json.dumps(schedule.model_dump(mode="json")))
    assert again == schedule, "steps stay steps and epochs epochs in a saved config"


@pytest.mark.parametrize("spec", [[1, 2], [0, 1, 2, 3, 4]])
def test_a_list_of_another_length_is_refused(spec: list[float]) -> None:
    with pytest.raises(ValueError, match="is no schedule"):
        SCHEDULE.validate_python(spec)


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
