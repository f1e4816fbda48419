"""What can be trained: one typed config a run, from a preset file and overrides."""

import copy
from importlib import resources
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, NonNegativeFloat, TypeAdapter, ValidationError, model_validator

from scaledreamer.config import Config, explain
from scaledreamer.errors import ConfigError
from scaledreamer.model.generators import GeneratorConfig, TriplaneTransformerConfig
from scaledreamer.training.diffusion import DiffusionConfig
from scaledreamer.training.evaluation.ceiling import CeilingConfig
from scaledreamer.training.loop import LoopConfig
from scaledreamer.training.priors.config import PriorConfig, PropsPriorConfig
from scaledreamer.training.priors.small_config import AutoencoderConfig, LatentConfig, SmallUNetConfig
from scaledreamer.training.priors.uvit import UViTConfig
from scaledreamer.training.step import DistillConfig


class PriorRun(Config):
    """Train the props prior on pictures of the ground truth."""

    kind: Literal["prior"] = "prior"
    network: UViTConfig = UViTConfig()
    data: DiffusionConfig = DiffusionConfig()
    loop: LoopConfig


class AutoencoderRun(Config):
    """Train the autoencoder of a latent prior on pictures of the ground truth."""

    kind: Literal["autoencoder"] = "autoencoder"
    network: AutoencoderConfig = AutoencoderConfig()
    data: DiffusionConfig = DiffusionConfig()
    divergence: NonNegativeFloat = 1e-5  # weight of the latents' divergence from a unit Gaussian
    loop: LoopConfig


class LatentPriorRun(Config):
    """Train a small Stable Diffusion (1 view) or MVDream (4 views) on pictures of the ground truth."""

    kind: Literal["latent-prior"] = "latent-prior"
    network: SmallUNetConfig = SmallUNetConfig()
    views: Literal[1, 4] = 1
    latent: LatentConfig
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
        own = isinstance(self.prior, PropsPriorConfig)  # whose encoder is MiniLM
        if self.distill.embeddings is not None and not own and self.text_encoder == "minilm":
            raise ValueError(
                "distill.embeddings stores what the prior reads; let the generator read it: text_encoder=prior"
            )
        return self


class CeilingRun(Config):
    """Fit a generator to true pictures: a reference row of the evaluation, never a model that ships."""

    kind: Literal["ceiling"] = "ceiling"
    generator: GeneratorConfig = TriplaneTransformerConfig()
    ceiling: CeilingConfig = CeilingConfig()
    loop: LoopConfig


Run = PriorRun | AutoencoderRun | LatentPriorRun | DistillRun | CeilingRun


def pictures_of(run: Run) -> DiffusionConfig | None:
    """The pictures of the ground truth that a run learns from, if it does."""
    match run:
        case PriorRun() | AutoencoderRun() | LatentPriorRun():
            return run.data
        case CeilingRun():
            return run.ceiling.data
        case DistillRun():
            return None


def with_pictures(run: Run, data: DiffusionConfig) -> Run:
    """The run on other pictures."""
    if isinstance(run, CeilingRun):
        return run.model_copy(update={"ceiling": run.ceiling.model_copy(update={"data": data})})
    return run.model_copy(update={"data": data})


_ADAPTER: TypeAdapter[Run] = TypeAdapter(Annotated[Run, Field(discriminator="kind")])


def preset_names() -> list[str]:
    """The presets that ship."""
    folder = resources.files("scaledreamer.training") / "presets"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_preset(name: str, overrides: list[str]) -> Run:
    """A preset with `a.b=value` overrides, validated once."""
    return resolve(preset_values(name), overrides)


def preset_values(name: str) -> dict[str, Any]:
    """What a preset says, on top of what its `base` says."""
    if name not in preset_names():
        raise ConfigError(f"unknown preset {name!r}; choose one of {preset_names()}")
    text = (resources.files("scaledreamer.training") / "presets" / f"{name}.yaml").read_text()
    values: dict[str, Any] = yaml.safe_load(text)
    base = values.pop("base", None)
    return values if base is None else on_top(preset_values(base), values)


def on_top(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Settings of `above` before those of `below`, group by group; a group of another kind replaces the whole group."""
    if "kind" in above and above["kind"] != below.get("kind"):
        return above
    merged = dict(below)
    for key, value in above.items():
        groups = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = on_top(below[key], value) if groups else value
    return merged


def resolve(values: dict[str, Any], overrides: list[str]) -> Run:
    """A run config from plain values and overrides; unknown keys and wrong types are refused by name."""
    try:
        return _ADAPTER.validate_python(overridden(values, overrides))
    except ValidationError as error:
        raise ConfigError(explain(error)) from error


def continued(values: dict[str, Any], overrides: list[str]) -> Run:
    """The run that a checkpoint holds, with overrides. On another number of processes each takes on as many batches as
    keep those of a step, or come nearest to them, unless loop.accumulate is among the overrides.
    """
    before, run = resolve(copy.deepcopy(values), []).loop, resolve(copy.deepcopy(values), overrides)
    if any(override.startswith("loop.accumulate=") for override in overrides):
        return run
    each = max(1, round(before.processes * before.accumulate / run.loop.processes))
    return run.model_copy(update={"loop": run.loop.model_copy(update={"accumulate": each})})


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
