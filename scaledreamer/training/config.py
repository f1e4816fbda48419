"""What can be trained: one typed config a run, from a preset file and overrides."""

from importlib import resources
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from scaledreamer.config import Config, explain
from scaledreamer.errors import ConfigError
from scaledreamer.training.diffusion import DiffusionConfig
from scaledreamer.training.loop import LoopConfig
from scaledreamer.training.priors.uvit import UViTConfig


class PriorRun(Config):
    """Train the props prior on pictures of the ground truth."""

    kind: Literal["prior"] = "prior"
    network: UViTConfig = UViTConfig()
    data: DiffusionConfig = DiffusionConfig()
    loop: LoopConfig


RunConfig = Annotated[PriorRun, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(PriorRun)


def preset_names() -> list[str]:
    """The presets that ship."""
    folder = resources.files("scaledreamer.training") / "presets"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_preset(name: str, overrides: list[str]) -> PriorRun:
    """A preset with `a.b=value` overrides, validated once."""
    if name not in preset_names():
        raise ConfigError(f"unknown preset {name!r}; choose one of {preset_names()}")
    text = (resources.files("scaledreamer.training") / "presets" / f"{name}.yaml").read_text()
    values: dict[str, Any] = yaml.safe_load(text)
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise ConfigError(f"{override!r} is no override; write key=value, for example loop.steps=100")
        place, path = values, key.split(".")
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{key}: {part} is no group of settings")
        place[path[-1]] = yaml.safe_load(value)
    return resolve(values)


def resolve(values: dict[str, Any]) -> PriorRun:
    """A run config from plain values."""
    try:
        run: PriorRun = _ADAPTER.validate_python(values)
    except ValidationError as error:
        raise ConfigError(explain(error)) from error
    return run
