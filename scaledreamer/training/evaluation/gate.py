"""The gate before distilling: what the prior believes in one step when it is shown a plain ball.

    python -m scaledreamer.training.evaluation.gate PRIOR.safetensors|FOLDER -o gate.png

A column a time, from late to early. What it does not show at late times, score distillation cannot teach a generator.
"""

import json
import sys
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scaledreamer.model.cameras import Camera, rays, turntable
from scaledreamer.model.images import sheet
from scaledreamer.model.rendering.shading import shade
from scaledreamer.training.diffusion import on_grey
from scaledreamer.training.distillation.base import asked_at, guide, predict
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.priors.build import build_prior
from scaledreamer.training.priors.config import MVDreamConfig, StableDiffusionConfig
from scaledreamer.training.priors.process import rows
from scaledreamer.training.priors.props import load_prior
from scaledreamer.training.priors.view_prompts import view_dependent, view_texts
from scaledreamer.training.props.grammar import canonical
from scaledreamer.training.props.palette import PALETTE
from scaledreamer.training.props.world import FIRST, WORLDS, Prop, World

TIMES = (0.985, 0.97, 0.94, 0.9, 0.8, 0.65, 0.5)
BALL = 0.55


def ball(color: str, camera: Camera, pixels: int) -> torch.Tensor:
    """A lit ball in a paint of the palette, premultiplied RGBA [V, 4, H, W]."""
    origins, directions = rays(camera, pixels, pixels)
    middle = -(origins * directions).sum(-1, keepdim=True)
    chord = BALL**2 - (origins.square().sum(-1, keepdim=True) - middle.square())
    normal = torch.nn.functional.normalize(origins + (middle - chord.clamp(min=0).sqrt()) * directions, dim=-1)
    alpha = (chord > 0).float()
    rgb = torch.tensor(PALETTE[color]) * shade(normal) * alpha
    return rearrange(torch.cat([rgb, alpha], -1), "V H W C -> V C H W")


@torch.no_grad()
def belief(
    prior: Prior, x_0: Float[Tensor, "V C h w"], t: float, cond: Condition, uncond: Condition, camera: Camera,
    rng: torch.Generator, guidance: float = 1.5,
) -> Float[Tensor, "V C h w"]:  # fmt: skip
    """The guided x_0 = (x_t - sigma eps) / alpha of pictures noised to a fraction t of the range."""
    process = prior.process
    times = torch.full((len(x_0),), process.time(t))
    noise = torch.randn(x_0.shape, generator=rng)
    asked = predict(prior, x_0, noise, asked_at(times, cond, uncond, guidance, None), camera)
    eps = guide(prior, asked, guidance, None, x_0, noise, times, None)
    alpha, sigma = rows(process.alpha(times)), rows(process.sigma(times))
    return (alpha * x_0 + sigma * (noise - eps)) / alpha


def gate(prior: Prior, color: str = "green", views: int = 2, pixels: int = 64, world: World = FIRST) -> Image.Image:
    """A row a kind, in a colour that it is trained in; first the ball, then the belief at each time."""
    camera = turntable(max(prior.views, views), elevation=0.35)
    lines = []
    for kind in world.kinds:
        prop = Prop(kind, color if world.split_of(Prop(kind, color)) == "seen" else "orange")
        x_0 = prior.encode((on_grey(ball(prop.color, camera, pixels))[:, : prior.channels] + 1) / 2)
        uncond = prior.embed([""])
        if prior.views == 1:
            cond = view_dependent(view_texts(prior, [canonical(prop)]), camera)
        else:
            cond = prior.embed([canonical(prop)])
        rng = torch.Generator().manual_seed(0)
        believed = [belief(prior, x_0, t, cond, uncond, camera, rng) for t in TIMES]
        pictures = torch.stack([prior.decode(latents) for latents in (x_0, *believed)])[:, :views, :3]
        lines.append(rearrange(pictures, "T V C H W -> (T V) C H W"))
    return sheet(torch.stack(lines), zoom=max(1, 64 // pictures.shape[-1]))


def load(path: Path) -> Prior:
    """A props prior's file, or a diffusers folder of Stable Diffusion or MVDream."""
    if path.is_file():
        return load_prior(path)
    unet = json.loads((path / "unet" / "config.json").read_text())
    where = {"path": str(path), "offline": True}
    if unet.get("class_embed_type") is None:
        return build_prior(StableDiffusionConfig.model_validate(where))[0]
    return build_prior(MVDreamConfig.model_validate({**where, "text": str(path)}))[0]


if __name__ == "__main__":
    _, path, _, out, *name = sys.argv  # the name of a world, if it is not the first
    gate(load(Path(path)), world=WORLDS[name[0]] if name else FIRST).save(out)
