"""Every kind of prop by name, theme after theme."""

from scaledreamer.training.props.kinds import (
    buildings,
    containers,
    first,
    food,
    furniture,
    plants,
    signs,
    tools,
    vehicles,
)
from scaledreamer.training.props.kinds.base import Kind

KINDS: dict[str, Kind] = {
    **first.KINDS, **containers.KINDS, **furniture.KINDS, **plants.KINDS, **food.KINDS, **tools.KINDS,
    **buildings.KINDS, **vehicles.KINDS, **signs.KINDS,
}  # fmt: skip
