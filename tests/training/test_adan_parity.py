"""Adan steps exactly as the official optimiser does."""

import pytest
import torch
from fixtures import error, fixture

from scaledreamer.training.optimizers import Adan

TENSORS, META = fixture("adan")


@pytest.mark.parametrize("group", range(len(META["groups"])))
def test_adan_follows_the_recorded_trajectory(group: int) -> None:
    names = sorted({key.split("/")[1] for key in TENSORS if key.startswith(f"{group}/param")})
    parameters = [torch.nn.Parameter(TENSORS[f"{group}/{name}/0"].clone()) for name in names]
    optimizer = Adan(parameters, **META["groups"][group])
    for step in range(META["steps"]):
        for name, parameter in zip(names, parameters, strict=True):
            parameter.grad = TENSORS[f"{group}/{name.replace('param', 'grad')}/{step + 1}"].clone()
        optimizer.step()
        for name, parameter in zip(names, parameters, strict=True):
            assert error(parameter.detach(), TENSORS[f"{group}/{name}/{step + 1}"]) < 2e-5


def test_the_first_step_without_change_is_the_sign_of_the_gradient() -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    p.grad = torch.tensor([2.0, -0.5, 1e-3])
    Adan([p], lr=0.1, eps=1e-15).step()
    assert torch.allclose(p.detach(), torch.tensor([-0.1, 0.1, -0.1]))


def test_a_gradient_that_comes_late_is_corrected_for_the_steps_of_its_group() -> None:
    early, late = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = Adan([early, late], lr=0.1, eps=1e-15)
    for step in range(4):
        early.grad = torch.ones(1)
        late.grad = torch.ones(1) if step == 3 else None
        optimizer.step()
    m, n = (1 - 0.98) / (1 - 0.98**4), (1 - 0.99) / (1 - 0.99**4)
    assert late.item() == pytest.approx(-0.1 * m / n**0.5, rel=1e-4)
