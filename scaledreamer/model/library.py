"""Generators as files: one safetensors file holds the weights, the whole config, the text encoder's name and a card."""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from scaledreamer.config import explain
from scaledreamer.errors import ModelFileError
from scaledreamer.model import checkpoint
from scaledreamer.model.generators import AnyGeneratorConfig, Generator, GeneratorConfig, build_generator
from scaledreamer.model.shelf import read_card

_CONFIG: TypeAdapter[AnyGeneratorConfig] = TypeAdapter(GeneratorConfig)


def save_generator(
    generator: Generator, path: Path | str, card: dict[str, Any], text_encoder: str = "minilm", half: bool = True
) -> None:
    """Write a generator, in fp16 or (`half=False`) as it is.

    `card` says what trained it: corpus, prior, steps, metrics, licence; `text_encoder` what it reads prompts with.
    """
    if not isinstance(getattr(generator, "config", None), AnyGeneratorConfig):
        raise ModelFileError(f"{type(generator).__name__} has no file form")
    header = {
        "config": generator.config.model_dump(mode="json"),
        "text_encoder": text_encoder,
        "stochastic": generator.stochastic,
        "card": card,
    }
    weights = generator.state_dict()
    checkpoint.write(Path(path), "generator", checkpoint.half(weights) if half else weights, header)


def load_generator(path: Path | str) -> Generator:
    """Read a generator in float32, ready to use. Anything that is not one is refused with what was found."""
    path = Path(path)
    header = read_card(path)
    try:
        config = _CONFIG.validate_python(header["config"])
    except ValidationError as error:
        raise ModelFileError(f"{path} was written by another version: {explain(error)}") from error
    generator = build_generator(config)
    checkpoint.load_weights(generator, checkpoint.read_tensors(path), path)
    return generator.eval().requires_grad_(False)
