"""Training the props prior: v-prediction on painted pictures of the ground truth."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from scaledreamer.config import Config
from scaledreamer.model.cameras import Camera, turntable
from scaledreamer.model.images import sheet
from scaledreamer.model.text import MiniLM
from scaledreamer.training.embeddings import EmbeddingStore
from scaledreamer.training.loop import Task
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.base import Condition
from scaledreamer.training.priors.process import Cosine, NoiseProcess, rows
from scaledreamer.training.priors.props import condition, predict_v
from scaledreamer.training.priors.uvit import MultiViewUViT, UViTConfig
from scaledreamer.training.props.dataset import PropsPictures, cameras_of
from scaledreamer.training.props.grammar import canonical
from scaledreamer.training.props.world import WORLDS, Prop, WorldName
from scaledreamer.training.views import ViewsConfig

PREVIEW = (  # a prop of every kind, half of them held out
    Prop("mushroom", "red"), Prop("bottle", "blue"), Prop("barrel", "red", "wide"), Prop("chair", "green"),
    Prop("table", "orange"), Prop("mug", "pink", "tall"), Prop("house", "red"), Prop("rocket", "blue", "small"),
    Prop("chest", "yellow"), Prop("tree", "cyan", "wide"),
)  # fmt: skip


class DiffusionConfig(Config):
    """Data and batch of the prior's training."""

    data: Path = Path("data/props")
    world: WorldName = "first"
    sets: PositiveInt = 300  # view sets a shape in the cache
    wordings: PositiveInt = 16  # prompts a prop
    batch: PositiveInt = 8  # view sets a process and step
    drop_text: float = 0.1  # how often the prompt is empty, for classifier-free guidance
    late_share: Annotated[float, Field(ge=0, le=1)] = 0.0  # of the times is drawn from late_from on, the rest from all
    late_from: Annotated[float, Field(ge=0, lt=1)] = 0.6
    views: ViewsConfig = ViewsConfig(views=4, elevation_deg=(-10, 60), distance=(3, 3), fovy_deg=(40, 40))

    def pictures(self, pixels: int) -> PropsPictures:
        """What there is to learn from, at pixels x pixels."""
        return PropsPictures.load(self.data, WORLDS[self.world], self.sets, pixels, self.wordings)

    def embeddings(self, prompts: list[str]) -> EmbeddingStore:
        """What all processes of all runs on this data read of its prompts; the first makes it."""
        folder = self.data / f"embeddings-{self.world}-{self.wordings}"
        return EmbeddingStore.build(prompts, MiniLM(), folder)

    def time(self, u: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Uniform numbers to times: distillation asks at late times, so the prior may learn most from them."""
        share, start = self.late_share, self.late_from
        late = start + (1 - start) * (u - 1 + share) / max(share, 1e-9)
        return torch.where(u < 1 - share, u / max(1 - share, 1e-9), late)


class DiffusionTask(Task):
    """MSE on v over view sets of random training props; one time for the views of a set, stratified over the batch."""

    def __init__(self, network: UViTConfig, config: DiffusionConfig, seed: int) -> None:
        torch.manual_seed(seed)
        self.seed = seed
        self.model = self.network = MultiViewUViT(network)
        self.config, self.process = config, Cosine()
        self.pictures = config.pictures(network.pixels)
        self.encoder = config.embeddings(self.pictures.prompts)

    def loss(self, step: int, rank: Rank) -> tuple[Tensor, dict[str, float]]:
        rng, count = rank.rng(self.seed, step, "diffusion"), self.config.batch
        examples = [self.pictures.example(rng) for _ in range(count)]
        prompts = ["" if torch.rand((), generator=rng) < self.config.drop_text else one.prompt for one in examples]
        camera = cameras_of(examples)
        x_0 = on_grey(torch.cat([one.images for one in examples]))
        views = self.network.config.views
        u = (torch.randperm(count, generator=rng) + torch.rand(count, generator=rng)) / count
        t = (0.001 + 0.998 * self.config.time(u)).repeat_interleave(views)
        noise = torch.randn(x_0.shape, generator=rng)
        x_t = self.process.add_noise(x_0, noise, t)
        target = rows(self.process.alpha(t)) * noise - rows(self.process.sigma(t)) * x_0
        v = predict_v(self.network, x_t, t, condition(self.encoder.encode(prompts)), camera)
        squared = (v - target).square().flatten(1).mean(1)
        return squared.mean(), by_time(squared.detach(), t)

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image:
        """One row a kind: DDIM samples of a prompt, half of them held out."""
        assert isinstance(model, MultiViewUViT)
        text = condition(self.encoder.encode([canonical(prop) for prop in PREVIEW]))
        camera = turntable(model.config.views, elevation=0.4)
        empty = condition(self.encoder.encode([""] * len(PREVIEW)))
        images = sample(model, text, empty, camera, torch.Generator().manual_seed(0))
        return sheet(images[:, :, :3], columns=2)


def on_grey(rgba: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B 4 H W"]:
    """Premultiplied RGBA in [0, 1] to what the network sees: colour over mid-grey and opacity, in [-1, 1]."""
    color = rgba[:, :3] + 0.5 * (1 - rgba[:, 3:])
    return 2 * torch.cat([color, rgba[:, 3:]], 1) - 1


def by_time(squared: Float[Tensor, " B"], t: Float[Tensor, " B"], buckets: int = 5) -> dict[str, float]:
    """Mean loss in equal slices of t."""
    index = (t * buckets).long()
    return {f"v_mse_{b}": float(squared[index == b].mean()) for b in range(buckets) if bool((index == b).any())}


@torch.no_grad()
def sample(
    network: MultiViewUViT,
    cond: Condition,
    uncond: Condition,
    camera: Camera,
    rng: torch.Generator,
    steps: int = 20,
    guidance: float = 2.0,
) -> Float[Tensor, "B V 4 H W"]:
    """DDIM with guidance; every prompt from the same V cameras; [0, 1]."""
    prompts, views = len(cond), len(camera)
    side = network.config.pixels
    x = torch.randn(prompts * views, network.config.channels, side, side, generator=rng)
    both, cameras = (
        cond.concatenate(uncond),
        Camera(camera.c2w.repeat(2 * prompts, 1, 1), camera.fovy.repeat(2 * prompts)),
    )

    def v(x_twice: Tensor, t: Tensor) -> Tensor:
        return predict_v(network, x_twice, t, both, cameras)

    x_0 = ddim(x, Cosine(), torch.linspace(0.98, 0.0, steps + 1), v, guidance, limit=1.0)
    return rearrange((x_0 + 1) / 2, "(B V) C H W -> B V C H W", V=views)


def ddim(
    x: Float[Tensor, "B C h w"], process: NoiseProcess, times: Tensor, v: Callable[[Tensor, Tensor], Tensor],
    guidance: float, limit: float = math.inf,
) -> Float[Tensor, "B C h w"]:  # fmt: skip
    """Deterministic DDIM (arXiv:2010.02502) from noise down the given times; x_0 stays within [-limit, limit].

    `v` is asked for the rows with the text and, after them, the same rows without it.
    """
    x_0 = x
    for now, later in itertools.pairwise(times):
        v_text, v_null = v(torch.cat([x, x]), now.expand(2 * len(x))).chunk(2)
        alpha, sigma = process.alpha(now), process.sigma(now)
        x_0 = (alpha * x - sigma * (v_null + guidance * (v_text - v_null))).clamp(-limit, limit)
        x = process.alpha(later) * x_0 + process.sigma(later) * (x - alpha * x_0) / sigma
    return x_0
