"""Our names and the official ones: tables from ours to theirs, used to read and to write a checkpoint."""

import re
from collections.abc import Set
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from scaledreamer.config import Config, explain
from scaledreamer.errors import ConfigError, ModelFileError

State = dict[str, Tensor]
Renames = tuple[tuple[str, str], ...]  # patterns in our names and what the official ones have there, in order
Module = TypeVar("Module", bound=nn.Module)
SomeConfig = TypeVar("SomeConfig", bound=Config)

BBOX = "bbox"  # [2, 3], the box; says nothing that the radius does not
GRID: Renames = ((r"^grid\.params$", "encoding.encoding.encoding.params"),)


def network(ours: str, official: str) -> Renames:
    """The names of a bias-free MLP's layers."""
    return ((rf"^{re.escape(ours)}\.(?=\d)", f"{official}.layers."),)


def parts(state: State) -> tuple[State, State, State]:
    """Geometry, background and renderer of a checkpoint, without these prefixes; keys without any are geometry."""
    found: dict[str, State] = {"geometry": {}, "background": {}, "renderer": {}}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        if first in found:
            found[first][rest] = value
        else:
            found["geometry"][key] = value
    return found["geometry"], found["background"], found["renderer"]


def radius_of(state: State) -> dict[str, float]:
    """The radius that the box in a checkpoint says; nothing where there is none, or no numbers in it."""
    box = state.get(BBOX)
    return {} if box is None or box.is_meta else {"radius": float(box.abs().max())}


def mlp_sizes(state: State, name: str) -> dict[str, int]:
    """Width and number of the hidden layers of an MLP, from its weights."""
    layers = sorted(key for key in state if key.startswith(f"{name}.layers."))
    return {"hidden": state[layers[0]].shape[0], "hidden_layers": len(layers) - 1}


def configure(kind: type[SomeConfig], sizes: dict[str, Any], overrides: dict[str, Any]) -> SomeConfig:
    """A config from what shapes tell and what the caller knows better."""
    try:
        return TypeAdapter(kind).validate_python({**sizes, **overrides})
    except ValidationError as error:
        raise ConfigError(f"the official weights do not fit these overrides: {explain(error)}") from error


def fill(module: Module, state: State, renames: Renames, unused: Set[str] = frozenset()) -> Module:
    """The module (built on the meta device) with copies of official weights, in float32; nothing may be left over."""
    own = module.state_dict()
    official = {name: official_name(name, renames) for name in own}
    missing = sorted(set(official.values()) - state.keys())
    surplus = sorted(state.keys() - set(official.values()) - unused)
    if missing or surplus:
        raise ModelFileError(
            f"the checkpoint does not fit a {type(module).__name__}: missing {missing[:3]}, not expected {surplus[:3]}"
            "; give a released ScaleDreamer checkpoint"
        )
    for name, theirs in official.items():
        if state[theirs].shape != own[name].shape:
            raise ModelFileError(
                f"{theirs} is {tuple(state[theirs].shape)}, expected {tuple(own[name].shape)}; override the sizes that "
                "shapes cannot tell, for example grid=HashGridConfig(...)"
            )
    copies = {name: state[theirs].detach().to(torch.float32, copy=True) for name, theirs in official.items()}
    module.load_state_dict(copies, assign=True)
    return module.eval()


def written(module: nn.Module, renames: Renames) -> State:
    """The module's weights under official names."""
    return {official_name(name, renames): value for name, value in module.state_dict().items()}


def official_name(name: str, renames: Renames) -> str:
    """The official name of one of ours."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name


def refuse_kind(what: str, state: State, known: str) -> ModelFileError:
    """The error for keys that belong to nothing we know."""
    hint = "; pass its ['state_dict']" if "state_dict" in state else "; give a released ScaleDreamer checkpoint"
    return ModelFileError(f"these keys are no official {what} ({known}); found for example {sorted(state)[:3]}{hint}")
