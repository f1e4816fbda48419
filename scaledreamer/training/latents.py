"""Training small networks of the real classes on props: an autoencoder, then a latent diffusion model on its latents.

The diffusion model sees single pictures and is told the side in words (Stable Diffusion), or four views and is told the
camera (MVDream). Both end as diffusers folders, read by the loaders that read the released models.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTokenizer

from scaledreamer.model.cameras import Camera, turntable
from scaledreamer.model.images import sheet
from scaledreamer.training.config import AutoencoderRun, LatentPriorRun
from scaledreamer.training.diffusion import PREVIEW, DiffusionConfig, by_time, ddim
from scaledreamer.training.loop import Task
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.prediction import target_of
from scaledreamer.training.priors.process import rows, scaled_linear
from scaledreamer.training.priors.small import (
    TextAndUNet,
    begin_from,
    build_autoencoder,
    build_text_tower,
    build_unet,
    learn_words,
    read_autoencoder,
    read_words,
    token_ids,
    write_autoencoder,
    write_folder,
)
from scaledreamer.training.priors.small_config import AutoencoderConfig, LatentConfig, SmallUNetConfig
from scaledreamer.training.priors.unet import call_unet, join_views
from scaledreamer.training.priors.view_prompts import SUFFIXES, from_sides
from scaledreamer.training.props.dataset import cameras_of
from scaledreamer.training.props.grammar import canonical, training_prompts
from scaledreamer.training.props.world import WORLDS
from scaledreamer.training.views import direction_of

GREY_SHARE = 0.25  # of the backgrounds; the others are uniform colours


class AutoencoderTask(Task):
    """Squared error of the reconstruction, and a little of the latents' divergence from a unit Gaussian."""

    def __init__(self, network: AutoencoderConfig, config: DiffusionConfig, divergence: float, seed: int) -> None:
        torch.manual_seed(seed)
        self.seed = seed
        self.model = self.vae = build_autoencoder(network)
        self.config, self.divergence = config, divergence
        self.pictures = config.pictures(network.pixels)

    def batch(self, rng: torch.Generator) -> Float[Tensor, "B 3 H W"]:
        """Pictures in [-1, 1]; half of them are mixed with another, for renders are no props at first."""
        sets = [self.pictures.example(rng).images for _ in range(self.config.batch)]
        pictures = 2 * over_plain(torch.cat(sets), rng) - 1
        mixed = torch.rand(len(pictures), generator=rng) * (torch.rand(len(pictures), generator=rng) < 0.5)
        return torch.lerp(pictures, pictures.roll(1, 0), rows(mixed))

    def loss(self, step: int, rank: Rank) -> tuple[Tensor, dict[str, float]]:
        rng = rank.rng(self.seed, step, "autoencoder")
        pictures = self.batch(rng)
        posterior = self.vae.encode(pictures).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=rng)
        error = (self.vae.decode(latents).sample - pictures).square().mean()
        divergence = posterior.kl().mean() / latents[0].numel()
        stats = {"error": float(error.detach()), "divergence": float(divergence.detach())}
        return error + self.divergence * divergence, stats

    @torch.no_grad()
    def scale(self, vae: nn.Module) -> float:
        """The factor that gives latents unit variance."""
        latents = vae.encode(self.batch(torch.Generator().manual_seed(0))).latent_dist.mean  # type: ignore[operator]
        return float(1 / latents.std())

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image:
        """Pictures and their reconstructions, side by side."""
        pictures = self.batch(torch.Generator().manual_seed(0))[:16]
        seen = model.decode(model.encode(pictures).latent_dist.mean).sample  # type: ignore[operator]
        return sheet(((torch.stack([pictures, seen], 1) + 1) / 2).clamp(0, 1), columns=4)


class LatentPriorTask(Task):
    """MSE on v over latents of painted pictures; `views` is 1 (told the side in words) or 4 (told the camera)."""

    def __init__(
        self, network: SmallUNetConfig, latent: LatentConfig, config: DiffusionConfig, views: int, seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.seed = seed
        self.latent, self.config, self.views = latent, config, views
        self.process = scaled_linear()
        self.vae = read_autoencoder(latent.autoencoder)
        self.pictures = config.pictures(self.vae.config.sample_size)
        self.window, self.tokenizer = network.window, words_of(network, latent, config)
        self.model = self.network = new_model(network, views, len(self.tokenizer))
        if latent.start is not None:
            begin_from(self.network, latent.start)
            self.network.text.requires_grad_(False)

    def loss(self, step: int, rank: Rank) -> tuple[Tensor, dict[str, float]]:
        rng, count = rank.rng(self.seed, step, "latents"), self.config.batch
        examples = [self.pictures.example(rng) for _ in range(count)]
        prompts = [text for one in examples for text in self.say(one.prompt, one.camera, rng)]
        camera = cameras_of(examples)
        x_0 = self.encode(torch.cat([over_plain(one.images, rng) for one in examples]), rng)
        sets = len(x_0) // self.views
        u = (torch.randperm(sets, generator=rng) + torch.rand(sets, generator=rng)) / sets
        t = (self.process.steps * self.config.time(u)).long().repeat_interleave(self.views)
        noise = torch.randn(x_0.shape, generator=rng)
        x_t = self.process.add_noise(x_0, noise, t)
        v = predict_v(self.network, x_t, t, self.ids(prompts), camera, self.views)
        squared = (v - target_of("v", x_0, noise, t, self.process)).square().flatten(1).mean(1)
        return squared.mean(), by_time(squared.detach(), t / self.process.steps)

    def say(self, prompt: str, camera: Camera, rng: torch.Generator) -> list[str]:
        """One text a network's sample: for single views one a picture, most with the side; empty now and then."""
        if self.views > 1:
            return ["" if torch.rand((), generator=rng) < self.config.drop_text else prompt]
        told = []
        for side in direction_of(camera).tolist():
            named = torch.rand((), generator=rng) < self.latent.side_share
            text = f"{prompt}, {SUFFIXES[side]}" if named else prompt
            told.append("" if torch.rand((), generator=rng) < self.config.drop_text else text)
        return told

    def ids(self, prompts: list[str]) -> Tensor:
        """Token ids."""
        return token_ids(self.tokenizer, prompts, self.window)

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "B 3 H W"], rng: torch.Generator) -> Float[Tensor, "B C h w"]:
        """Pictures in [0, 1] to scaled latents."""
        posterior = self.vae.encode(2 * images - 1).latent_dist
        sampled = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=rng)
        latents: Tensor = sampled * self.vae.config.scaling_factor
        return latents

    @torch.no_grad()
    def preview(self, model: nn.Module) -> Image.Image:
        """Samples of one prompt a kind from four sides."""
        assert isinstance(model, TextAndUNet)
        camera = turntable(4, elevation=0.4)
        prompts = [canonical(prop) for prop in PREVIEW]
        if self.views == 1:
            prompts = [f"{prompt}, {SUFFIXES[side]}" for prompt in prompts for side in direction_of(camera).tolist()]
        latents = self.sample(model, prompts, camera, len(PREVIEW))
        images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return sheet(rearrange((images.clamp(-1, 1) + 1) / 2, "(B V) C H W -> B V C H W", V=4), columns=2)

    def sample(
        self, model: TextAndUNet, prompts: list[str], camera: Camera, sets: int, steps: int = 20, guidance: float = 2.0
    ) -> Float[Tensor, "B C h w"]:
        """DDIM with guidance, four views a set from the same cameras."""
        side = model.unet.config.sample_size
        x = torch.randn(
            4 * sets, self.vae.config.latent_channels, side, side, generator=torch.Generator().manual_seed(0)
        )
        ids = torch.cat([self.ids(prompts), self.ids([""] * len(prompts))])
        cameras = Camera(camera.c2w.repeat(2 * sets, 1, 1), camera.fovy.repeat(2 * sets))

        def v(x_twice: Tensor, t: Tensor) -> Tensor:
            return predict_v(model, x_twice, t, ids, cameras, self.views)

        times = torch.linspace(self.process.steps - 1, 0, steps + 1).long()
        return ddim(x, self.process, times, v, guidance)


def words_of(network: SmallUNetConfig, latent: LatentConfig, config: DiffusionConfig) -> CLIPTokenizer:
    """The tokenizer of the model that training begins with, or one of the training prompts and the sides."""
    if latent.start is not None:
        return read_words(latent.start)
    said = training_prompts(WORLDS[config.world], config.wordings)
    return learn_words([text for prompt in said for text in from_sides(prompt)], network.window)


def new_model(network: SmallUNetConfig, views: int, vocabulary: int) -> TextAndUNet:
    """Untrained networks for single views, or for several that see each other."""
    unet = build_unet(network, camera=views > 1)
    return TextAndUNet(join_views(unet) if views > 1 else unet, build_text_tower(network, vocabulary))


def predict_v(
    model: TextAndUNet, x_t: Float[Tensor, "B C h w"], t: Tensor, ids: Tensor, camera: Camera, views: int
) -> Float[Tensor, "B C h w"]:
    """The network's v; a text a picture, or, where views see each other, a text a set."""
    told = model.told(ids)
    if views == 1:
        return call_unet(model.unet, x_t, t, told, None)
    return call_unet(model.unet, x_t, t, told.repeat_interleave(views, 0), camera, {"views": views})


def over_plain(rgba: Float[Tensor, "B 4 H W"], rng: torch.Generator) -> Float[Tensor, "B 3 H W"]:
    """Premultiplied pictures over one colour each, [0, 1]: with a single background, paint of its colour is a hole."""
    colors = torch.rand(len(rgba), 3, generator=rng)
    grey = torch.rand(len(rgba), 1, generator=rng) < GREY_SHARE
    return rgba[:, :3] + rearrange(torch.where(grey, 0.5, colors), "B C -> B C 1 1") * (1 - rgba[:, 3:])


def untrained(run: AutoencoderRun | LatentPriorRun) -> nn.Module:
    """The networks of a run, without its data."""
    if isinstance(run, AutoencoderRun):
        vae: nn.Module = build_autoencoder(run.network)
        return vae
    return new_model(run.network, run.views, len(words_of(run.network, run.latent, run.data)))


def export_folder(run: AutoencoderRun | LatentPriorRun, model: nn.Module, folder: Path, card: dict[str, Any]) -> None:
    """Write a trained model as a diffusers folder with its card; an earlier one gives way when all is written."""
    with tempfile.TemporaryDirectory(prefix=".model.", suffix=".partial", dir=folder.parent) as partial:
        new = Path(partial) / "model"
        if isinstance(run, AutoencoderRun):
            task = AutoencoderTask(run.network, run.data, run.divergence, run.loop.seed)
            write_autoencoder(model, task.scale(model), new)
        else:
            assert isinstance(model, TextAndUNet)
            words = words_of(run.network, run.latent, run.data)
            write_folder(model, words, read_autoencoder(run.latent.autoencoder), new)
        (new / "card.json").write_text(json.dumps(card, indent=1))
        if folder.exists():
            folder.rename(Path(partial) / "old")
        new.rename(folder)
