"""What can be trained: one typed config a run, from a preset file and overrides."""

from importlib import resources
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from scaledreamer.config import Config, explain
from scaledreamer.errors import ConfigError
from scaledreamer.model.generators import GeneratorConfig, TriplaneTransformerConfig
from scaledreamer.training.diffusion import DiffusionConfig
from scaledreamer.training.evaluation.ceiling import CeilingConfig
from scaledreamer.training.loop import LoopConfig
from scaledreamer.training.priors.config import PriorConfig, PropsPriorConfig
from scaledreamer.training.priors.uvit import UViTConfig
from scaledreamer.training.step import DistillConfig


class PriorRun(Config):
    """Train the props prior on pictures of the ground truth."""

    kind: Literal["prior"] = "prior"
    network: UViTConfig = UViTConfig()
    data: DiffusionConfig = DiffusionConfig()
    loop: LoopConfig


class DistillRun(Config):
    """Train a generator from a prior alone."""

    kind: Literal["distill"] = "distill"
    generator: GeneratorConfig = TriplaneTransformerConfig()
    prior: PriorConfig = PropsPriorConfig()
    text_encoder: Literal["minilm", "prior"] = (
        "minilm"  # whose embeddings the generator reads; official: the prior's own
    )
    distill: DistillConfig
    loop: LoopConfig

    @model_validator(mode="after")
    def _one_encoder(self) -> Self:
        if self.text_encoder == "prior" and self.distill.embeddings is not None:
            raise ValueError("distill.embeddings stores MiniLM's vectors; with text_encoder=prior leave it out")
        return self


class CeilingRun(Config):
    """Fit a generator to true pictures: a reference row of the evaluation, never a model that ships."""

    kind: Literal["ceiling"] = "ceiling"
    generator: GeneratorConfig = TriplaneTransformerConfig()
    ceiling: CeilingConfig = CeilingConfig()
    loop: LoopConfig


Run = PriorRun | DistillRun | CeilingRun
_ADAPTER: TypeAdapter[Run] = TypeAdapter(Annotated[Run, Field(discriminator="kind")])


def preset_names() -> list[str]:
    """The presets that ship."""
    folder = resources.files("scaledreamer.training") / "presets"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_preset(name: str, overrides: list[str]) -> Run:
    """A preset with `a.b=value` overrides, validated once."""
    if name not in preset_names():
        raise ConfigError(f"unknown preset {name!r}; choose one of {preset_names()}")
    text = (resources.files("scaledreamer.training") / "presets" / f"{name}.yaml").read_text()
    return resolve(yaml.safe_load(text), overrides)


def resolve(values: dict[str, Any], overrides: list[str]) -> Run:
    """A run config from plain values and overrides; unknown keys and wrong types are refused by name."""
    try:
        return _ADAPTER.validate_python(overridden(values, overrides))
    except ValidationError as error:
        raise ConfigError(explain(error)) from error


def overridden(values: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """The values with every `a.b=value` put in its place."""
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise ConfigError(f"{override!r} is no override; write key=value, for example loop.steps=100")
        place, path = values, key.split(".")
        for part in path[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{key}: {part!r} is no group of settings")
        place[path[-1]] = yaml.safe_load(value)
    return values
