"""Networks that turn text into fields."""

from typing import Annotated, assert_never

from pydantic import Field as Choice

from scaledreamer.model.generators.base import Generator
from scaledreamer.model.generators.conv3d import Conv3D, Conv3DConfig
from scaledreamer.model.generators.hyper_ingp import HyperNGP, HyperNGPConfig
from scaledreamer.model.generators.prompt_ingp import PromptNGP, PromptNGPConfig
from scaledreamer.model.generators.triplane_transformer import TriplaneTransformer, TriplaneTransformerConfig

AnyGeneratorConfig = TriplaneTransformerConfig | Conv3DConfig | HyperNGPConfig | PromptNGPConfig
GeneratorConfig = Annotated[AnyGeneratorConfig, Choice(discriminator="kind")]


def build_generator(config: AnyGeneratorConfig) -> Generator:
    """The generator a config names."""
    match config:
        case TriplaneTransformerConfig():
            return TriplaneTransformer(config)
        case Conv3DConfig():
            return Conv3D(config)
        case HyperNGPConfig():
            return HyperNGP(config)
        case PromptNGPConfig():
            return PromptNGP(config)
        case never:
            assert_never(never)


__all__ = [
    "AnyGeneratorConfig",
    "Conv3D",
    "Conv3DConfig",
    "Generator",
    "GeneratorConfig",
    "HyperNGP",
    "HyperNGPConfig",
    "PromptNGP",
    "PromptNGPConfig",
    "TriplaneTransformer",
    "TriplaneTransformerConfig",
    "build_generator",
]
