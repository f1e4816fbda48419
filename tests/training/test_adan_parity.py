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
