"""As much matter between two things as lies between theirs."""

import torch
from jaxtyping import Float
from torch import Tensor

from scaledreamer.model.fields.base import Field

NODES = 64  # along the box, where matter is counted


def distances_of(field: Field) -> Float[Tensor, " N"]:
    """Signed distances of scene 0 on a lattice over the box, in order."""
    axis = torch.linspace(-field.bound, field.bound, NODES, device=field.device)
    return field[0].lattice(axis, axis, axis).sdf.flatten().sort().values


def matter_between(a: Field, b: Field, mixed: Field, weight: float) -> float:
    """How far to move the surface of `mixed` outwards (object units), so that as much lies inside as the two have,
    weighted: the mean of two distances is positive wherever thin parts of one are far from the other, and matter is
    lost. 0 where the amount is right.
    """
    first, second = (int((distances_of(end) < 0).sum()) for end in (a, b))
    distances, count = distances_of(mixed), round((1 - weight) * first + weight * second)
    if not 0 < count < len(distances):
        return 0.0
    low, high = float(distances[count - 1]), float(distances[count])
    return min(max(0.0, low), high)
