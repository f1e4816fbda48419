"""A prior from its config: the one place that chooses what to load."""

from typing import assert_never

import torch

from scaledreamer.errors import ConfigError
from scaledreamer.model.text import TextEncoder
from scaledreamer.training.embeddings import RememberingEncoder
from scaledreamer.training.priors.base import Prior
from scaledreamer.training.priors.config import MVDreamConfig, PriorConfig, PropsPriorConfig, StableDiffusionConfig


def build_prior(config: PriorConfig, sentences: TextEncoder) -> tuple[Prior, TextEncoder]:
    """The frozen prior, on the GPU where there is one, and the encoder it reads prompts with.

    `sentences` is the encoder of the props prior; the others bring their own.
    """
    match config:
        case PropsPriorConfig():
            from scaledreamer.training.priors.props import load_prior, prior_path

            return load_prior(prior_path(config.path), sentences), sentences
        case StableDiffusionConfig() | MVDreamConfig():
            return build_latent_prior(config)
        case _:
            assert_never(config)


def build_latent_prior(config: StableDiffusionConfig | MVDreamConfig) -> tuple[Prior, TextEncoder]:
    """A prior that needs diffusers; every prompt is embedded once."""
    try:
        from scaledreamer.training.priors.mvdream import MVDreamPrior, load_mvdream
        from scaledreamer.training.priors.stable_diffusion import StableDiffusionPrior, load_stable_diffusion
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"prior.kind={config.kind} needs {error.name}; run: pip install 'scaledreamer[train]'"
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    prior: StableDiffusionPrior | MVDreamPrior
    match config:
        case StableDiffusionConfig():
            prior = load_stable_diffusion(config, device)
        case MVDreamConfig():
            prior = load_mvdream(config, device)
    prior.encoder = RememberingEncoder(prior.encoder)
    return prior, prior.encoder
