"""The ceiling of a generator: the same network and renderer, fitted to true pictures instead of a prior's judgement.

A reference row of the evaluation. It is 3D supervision in disguise, so nothing that ships is trained by it.
"""

import torch
from PIL import Image
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from scaledreamer.config import Config
from scaledreamer.model.generators import GeneratorConfig, build_generator
from scaledreamer.model.rendering import LatticeConfig, RenderConfig, render
from scaledreamer.training.diffusion import DiffusionConfig, on_grey
from scaledreamer.training.loop import Task
from scaledreamer.training.parallel import Rank
from scaledreamer.training.props.dataset import cameras_of
from scaledreamer.training.regularizers import RegularizerConfig, regularize
from scaledreamer.training.schedules import Scheduled, constant
from scaledreamer.training.size_words import SizeWordsConfig, generate
from scaledreamer.training.step import pictures


class CeilingConfig(Config):
    """The pictures, and how the field is rendered; as in the run that it is the ceiling of."""

    data: DiffusionConfig = DiffusionConfig()
    renderer: RenderConfig = LatticeConfig()
    sharpness: Scheduled = constant(30.0)
    regularizers: RegularizerConfig = RegularizerConfig()
    pixels: PositiveInt = 32
    prompts: PositiveInt = 4  # a process and step
    size_words: SizeWordsConfig | None = None
    scale: PositiveFloat = 1.0  # of the picture loss, half the squared error summed over a picture


class CeilingTask(Task):
    """Squared error of rendered colour and opacity against the prior's training pictures."""

    def __init__(self, generator: GeneratorConfig, config: CeilingConfig, seed: int, steps: int) -> None:
        torch.manual_seed(seed)
        self.model = self.generator = build_generator(generator)
        self.config, self.seed, self.steps = config, seed, steps
        self.data = config.data.pictures(config.pixels)
        self.encoder = config.data.embeddings(self.data.prompts)

    def loss(self, step: int, rank: Rank) -> tuple[Tensor, dict[str, float]]:
        config, rng = self.config, rank.rng(self.seed, step, "ceiling")
        examples = [self.data.example(rng) for _ in range(config.prompts)]
        said, camera = [one.prompt for one in examples], cameras_of(examples)
        field, _ = generate(self.generator, self.encoder, said, config.size_words, 0.0, rng)
        renderer = config.renderer.model_copy(update={"sharpness": config.sharpness.at(step, self.steps)})
        rendering = render(field, camera, None, config.pixels, renderer, rng)
        error = 2 * pictures(rendering, 4) - 1 - on_grey(torch.cat([one.images for one in examples]))
        fit = 0.5 * error.square().sum() / len(error)
        regular, values = regularize(config.regularizers, rendering, step, self.steps)
        mse = float(error.detach().square().mean()) / 4  # of values in [0, 1]
        return config.scale * fit + regular, {"mse": mse, **values}

    def preview(self, model: nn.Module) -> Image.Image | None:
        return None
