"""A prior from its config: the one place that chooses what to load."""

from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import torch

from scaledreamer.errors import ConfigError
from scaledreamer.model.clip_text import CLIPText
from scaledreamer.model.pretrained import Source
from scaledreamer.model.text import MiniLM, TextEncoder
from scaledreamer.training.embeddings import open_embeddings
from scaledreamer.training.priors.base import Prior
from scaledreamer.training.priors.config import MVDreamConfig, PriorConfig, PropsPriorConfig, StableDiffusionConfig

if TYPE_CHECKING:
    from scaledreamer.training.priors.mvdream import MVDreamPrior
    from scaledreamer.training.priors.stable_diffusion import StableDiffusionPrior


def build_prior(
    config: PriorConfig, device: torch.device | str = "cpu", embeddings: Path | None = None
) -> tuple[Prior, TextEncoder]:
    """The frozen prior on a device, and the encoder it reads prompts with: every prompt is embedded once, or read from
    the store in `embeddings`.
    """
    match config:
        case PropsPriorConfig():
            from scaledreamer.training.priors.props import load_prior, prior_path

            encoder = open_embeddings(embeddings, MiniLM())
            props = load_prior(prior_path(config.path), encoder)
            props.network.to(device)
            return props, encoder
        case StableDiffusionConfig() | MVDreamConfig():
            prior = _diffusers_prior(config, str(device))
            prior.encoder = open_embeddings(embeddings, prior.encoder)
            return prior, prior.encoder
        case _:
            assert_never(config)


def load_encoder(config: PriorConfig) -> TextEncoder:
    """The encoder that a prior reads prompts with, alone."""
    match config:
        case PropsPriorConfig():
            return MiniLM()
        case StableDiffusionConfig() | MVDreamConfig():
            text = config.path if isinstance(config, StableDiffusionConfig) else config.text
            return CLIPText.load(Source(text, config.revision, config.offline))
        case _:
            assert_never(config)


def _diffusers_prior(
    config: StableDiffusionConfig | MVDreamConfig, device: str
) -> "StableDiffusionPrior | MVDreamPrior":
    try:
        from scaledreamer.training.priors.mvdream import load_mvdream
        from scaledreamer.training.priors.stable_diffusion import load_stable_diffusion
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"prior.kind={config.kind} needs {error.name}; run: pip install 'scaledreamer[train]'"
        ) from error
    match config:
        case StableDiffusionConfig():
            return load_stable_diffusion(config, device)
        case MVDreamConfig():
            return load_mvdream(config, device)
