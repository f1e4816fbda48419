"""Networks that turn text into fields."""

from scaledreamer.model.generators.base import Generator
from scaledreamer.model.generators.triplane_transformer import TriplaneTransformer, TriplaneTransformerConfig

GeneratorConfig = TriplaneTransformerConfig  # becomes a union when a second generator arrives


def build_generator(config: GeneratorConfig) -> Generator:
    """The generator a config names."""
    return TriplaneTransformer(config)


__all__ = ["Generator", "GeneratorConfig", "TriplaneTransformer", "TriplaneTransformerConfig", "build_generator"]
