"""The ceiling of a generator: the same network and renderer, fitted to true pictures instead of a prior's judgement.

A reference row of the evaluation. It is 3D supervision in disguise, so nothing that ships is trained by it.
"""

import torch
from PIL import Image
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from scaledreamer.config import Config
from scaledreamer.model.cameras import Camera
from scaledreamer.model.generators import GeneratorConfig, build_generator
from scaledreamer.model.rendering import LatticeConfig, RenderConfig, render
from scaledreamer.model.text import MiniLM
from scaledreamer.training.diffusion import DiffusionConfig, on_grey
from scaledreamer.training.embeddings import RememberingEncoder
from scaledreamer.training.loop import Task
from scaledreamer.training.parallel import Rank
from scaledreamer.training.props.dataset import PropsPictures
from scaledreamer.training.props.grammar import prompts_of, training_props
from scaledreamer.training.regularizers import RegularizerConfig, regularize
from scaledreamer.training.schedules import Scheduled, constant
from scaledreamer.training.step import pictures


class CeilingConfig(Config):
    """The pictures, and how the field is rendered; as in the run that it is the ceiling of."""

    data: DiffusionConfig = DiffusionConfig()
    renderer: RenderConfig = LatticeConfig()
    sharpness: Scheduled = constant(30.0)
    regularizers: RegularizerConfig = RegularizerConfig()
    pixels: PositiveInt = 32
    prompts: PositiveInt = 4  # a process and step
    scale: PositiveFloat = 1.0  # of the picture loss, half the squared error summed over a picture


class CeilingTask(Task):
    """Squared error of rendered colour and opacity against the prior's training pictures."""

    def __init__(self, generator: GeneratorConfig, config: CeilingConfig, seed: int, steps: int) -> None:
        torch.manual_seed(seed)
        self.model = build_generator(generator)
        self.config, self.seed, self.steps = config, seed, steps
        self.data = PropsPictures.load(config.data.data, config.data.sets, config.pixels)
        self.props = training_props()
        self.prompts = [prompts_of(prop, config.data.wordings) for prop in self.props]
        self.encoder = RememberingEncoder(MiniLM(), (prompt for said in self.prompts for prompt in said))

    def loss(self, step: int, rank: Rank) -> tuple[Tensor, dict[str, float]]:
        config, rng = self.config, rank.rng(self.seed, step, "ceiling")
        images, cameras, prompts = [], [], []
        for choice in torch.randint(len(self.props), (config.prompts,), generator=rng).tolist():
            image, camera = self.data.draw(self.props[choice], rng)
            images.append(image)
            cameras.append(camera)
            said = self.prompts[choice]
            prompts.append(said[int(torch.randint(len(said), (), generator=rng))])
        camera = Camera(torch.cat([c.c2w for c in cameras]), torch.cat([c.fovy for c in cameras]))
        field = self.model(self.encoder.encode(prompts))
        renderer = config.renderer.model_copy(update={"sharpness": config.sharpness.at(step, self.steps)})
        rendering = render(field, camera, None, config.pixels, renderer, rng)
        error = 2 * pictures(rendering, 4) - 1 - on_grey(torch.cat(images))
        fit = 0.5 * error.square().sum() / len(error)
        regular, values = regularize(config.regularizers, rendering, step, self.steps)
        mse = float(error.detach().square().mean()) / 4  # of values in [0, 1]
        return config.scale * fit + regular, {"mse": mse, **values}

    def preview(self, model: nn.Module) -> Image.Image | None:
        return None
