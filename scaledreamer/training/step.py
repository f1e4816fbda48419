"""Training a generator by score distillation: prompt, field, pictures, the prior's judgement, gradient.

Nothing here knows what the prompts look like: an import contract keeps the ground truth out.
"""

import math
from pathlib import Path
from typing import Annotated, Self

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from pydantic import Field as Limits
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from scaledreamer.config import Config
from scaledreamer.model.cameras import Camera, turntable
from scaledreamer.model.fields.base import Field
from scaledreamer.model.generators import Generator, GeneratorConfig, build_generator
from scaledreamer.model.images import sheet
from scaledreamer.model.rendering import (
    AnyBackgroundConfig,
    Background,
    BackgroundConfig,
    LatticeConfig,
    NeRFConfig,
    PlainBackgroundConfig,
    RenderConfig,
    Rendering,
    VolSDFConfig,
    build_background,
    render,
)
from scaledreamer.model.text import TextEncoder
from scaledreamer.training.distillation import VSD
from scaledreamer.training.loop import Task
from scaledreamer.training.losses import LossConfig, Texts, TimesConfig, build_vsd, distill
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.priors.view_prompts import perp_neg, view_dependent, view_texts
from scaledreamer.training.prompts import CorpusConfig, PropsCorpus, draw_prompts, read_corpus
from scaledreamer.training.regularizers import OFF, RegularizerConfig, regularize
from scaledreamer.training.schedules import Scheduled, constant
from scaledreamer.training.size_words import SizeWordsConfig, generate
from scaledreamer.training.views import SidesConfig, ViewsConfig, sample_views


class DistillConfig(Config):
    """Everything about a step but the generator, the prior and the loop."""

    corpus: CorpusConfig = PropsCorpus()
    embeddings: Path | None = None  # folder of an EmbeddingStore, for a large corpus; None: in RAM, as they are met
    loss: LossConfig
    times: TimesConfig = TimesConfig()
    text_noise: Scheduled = constant(0.0)  # on what the generator reads, of its size: words must count one by one
    size_words: SizeWordsConfig | None = None  # what the generator's stretch shall do by itself
    regularizers: RegularizerConfig = RegularizerConfig()
    views: ViewsConfig = ViewsConfig()
    background: BackgroundConfig = PlainBackgroundConfig()  # what has weights is trained with the generator
    renderer: RenderConfig = LatticeConfig()
    sharpness: Scheduled = constant(30.0)  # replaces the renderer's
    nodes: Scheduled | None = None  # along an axis of the lattice; replaces the renderer's
    pixels: Scheduled = constant(64)  # along a picture's side
    prompts: PositiveInt = 1  # a process and step
    view_dependent: bool = False  # tell the prior which side a camera sees: front, side, back or from above
    sides: SidesConfig = SidesConfig()
    perp_neg: float = 0.0  # strength of Perp-Neg between those sides; official -0.5, 0: off
    preview: tuple[str, ...] = ()  # prompts of the preview strip
    preview_distance: PositiveFloat = 3.0  # object units
    preview_fovy_deg: Annotated[float, Limits(gt=0, lt=180)] = 40.0

    @model_validator(mode="after")
    def _sides_have_names(self) -> Self:
        if self.perp_neg and not self.view_dependent:
            raise ValueError(f"perp_neg={self.perp_neg} needs view_dependent=true; or set perp_neg=0")
        return self

    @model_validator(mode="after")
    def _orient_asks_all(self) -> Self:
        if isinstance(self.renderer, VolSDFConfig) and self.renderer.slopes < 1 and self.regularizers.orient != OFF:
            raise ValueError("regularizers.orient reads the normal of every sample; set renderer.slopes=1")
        return self

    @model_validator(mode="after")
    def _lattices_have_nodes(self) -> Self:
        if isinstance(self.renderer, LatticeConfig):
            return self
        if self.regularizers.smoothness != OFF:
            raise ValueError("regularizers.smoothness compares the nodes of a lattice; set regularizers.smoothness=0")
        if self.nodes is not None:
            raise ValueError(f"nodes are those of a lattice, and renderer.kind is {self.renderer.kind}; set nodes=null")
        return self

    def renderer_at(self, step: int, steps: int) -> VolSDFConfig | LatticeConfig | NeRFConfig:
        """The renderer with the sharpness and the lattice of this step; a NeRF has neither."""
        if isinstance(self.renderer, NeRFConfig):
            return self.renderer
        update: dict[str, float] = {"sharpness": self.sharpness.at(step, steps)}
        if self.nodes is not None:
            update["nodes"] = round(self.nodes.at(step, steps))
        return self.renderer.model_copy(update=update)


class Scenery(nn.Module):
    """What is trained: the generator, and the background that is learned beside it."""

    def __init__(self, generator: GeneratorConfig, background: AnyBackgroundConfig) -> None:
        super().__init__()
        self.generator: Generator = build_generator(generator)
        self.background: Background = build_background(background)


class DistillTask(Task):
    """One pass of the generator a prompt for all its views; the prior sees the pictures, the optimiser the gradient."""

    start_prefix = "generator."

    def __init__(
        self, generator: GeneratorConfig, prior: Prior, encoder: TextEncoder, config: DistillConfig, seed: int,
        device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        torch.manual_seed(seed)
        self.model = self.scenery = Scenery(generator, config.background).to(device)
        self.device = device
        self.prior, self.config, self.seed = prior, config, seed
        self.corpus = read_corpus(config.corpus)
        self.encoder = encoder
        self.uncond = prior.embed([prior.negative_prompt])
        self.vsd = build_vsd(config.loss, prior)
        self.steps = 1  # of the run; set by whoever knows

    def loss(self, step: int, rank: Rank) -> tuple[Tensor, dict[str, float]]:
        config, progress = self.config, (step, self.steps)
        rng = rank.rng(self.seed, step, "distill")
        prompts = draw_prompts(self.corpus, config.prompts, rank, rng)
        noise = config.text_noise.at(*progress)
        field, text = generate(self.scenery.generator, self.encoder, prompts, config.size_words, noise, rng)
        background = self.scenery.background.for_text(text)
        return lesson(field, background, prompts, config, self.prior, self.uncond, progress, rng, rank, self.vsd)

    def extra_state(self) -> dict[str, Tensor]:
        return {} if self.vsd is None else self.vsd.state()

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        if self.vsd is not None:
            self.vsd.load_state(state)

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image | None:
        """The preview prompts from four sides."""
        if not self.config.preview:
            return None
        assert isinstance(model, Scenery)
        config = self.config
        camera = turntable(4, 0.4, config.preview_distance, math.radians(config.preview_fovy_deg)).to(self.device)
        rows = []
        for prompt in config.preview:
            text = self.encoder.encode([prompt]).to(self.device)
            background = model.background.for_text(text)
            seen = render(model.generator(text), camera, background, 64, config.renderer_at(self.steps, self.steps))
            rows.append(rearrange(seen.rgb, "V H W C -> V C H W").cpu())
        return sheet(torch.stack(rows), columns=4, zoom=1)


def pictures(rendering: Rendering, channels: int) -> Float[Tensor, "B K H W"]:
    """What a prior judges: colour over the background, and opacity where it wants that too."""
    layers = torch.cat([rendering.rgb, rendering.opacity], dim=-1)[..., :channels]
    return rearrange(layers, "B H W K -> B K H W")


def lesson(
    field: Field, background: Background, prompts: list[str], config: DistillConfig, prior: Prior, uncond: Condition,
    progress: tuple[int, int], rng: torch.Generator, rank: Rank, vsd: VSD | None = None,
) -> tuple[Tensor, dict[str, float]]:  # fmt: skip
    """The loss of fields, a scene a prompt, seen from random sides: what the prior says of the pictures, and the
    regularisers; with every number to log.
    """
    camera = sample_views(config.views, len(prompts), rng)
    pixels, renderer = round(config.pixels.at(*progress)), config.renderer_at(*progress)
    rendering = render(field, camera.to(field.device), background, pixels, renderer, rng)
    x_0 = prior.encode(pictures(rendering, prior.channels), rng)
    texts = tell(config, prior, uncond, prompts, camera)
    distilled = distill(config.loss, config.times, prior, x_0, texts, camera, progress, rng, rank, vsd)
    regular, values = regularize(config.regularizers, rendering, *progress)
    return distilled.loss + regular, {"distill": float(distilled.loss.detach()), **distilled.stats, **values}


def tell(config: DistillConfig, prior: Prior, uncond: Condition, prompts: list[str], camera: Camera) -> Texts:
    """The prompts as the prior hears them, with the sides that the cameras see where the config asks for it."""
    plain = prior.embed(prompts)
    if not config.view_dependent:
        return Texts(plain, uncond, plain)
    sides = view_texts(prior, prompts)
    if not config.perp_neg:
        return Texts(view_dependent(sides, camera, config.sides), uncond, plain)
    positive, negatives = perp_neg(sides, uncond, camera, config.perp_neg, config.sides)
    return Texts(positive, uncond, plain, negatives)
