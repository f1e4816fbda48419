"""The gate before distilling: what the prior believes in one step when it is shown a plain ball.

    python -m scaledreamer.training.evaluation.gate PRIOR.safetensors -o gate.png

A column a time, from late to early. What it does not show at late times, score distillation cannot teach a generator.
"""

import sys
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image

from scaledreamer.model.cameras import Camera, rays, turntable
from scaledreamer.model.images import sheet
from scaledreamer.model.rendering.shading import shade
from scaledreamer.training.diffusion import on_grey, one_step_x0
from scaledreamer.training.priors.props import PropsPrior, load_prior
from scaledreamer.training.props.grammar import KINDS, Prop, canonical
from scaledreamer.training.props.palette import PALETTE

TIMES = (0.97, 0.9, 0.8, 0.65, 0.5, 0.3)
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


def gate(prior: PropsPrior, color: str = "green", views: int = 2) -> Image.Image:
    """A row a kind, in a colour that it is trained in; first the ball, then the belief at each time."""
    camera = turntable(prior.views, elevation=0.35)
    rows = []
    for kind in KINDS:
        prop = Prop(kind, "orange" if kind in ("tree", "rocket") else color)
        shown = on_grey(ball(prop.color, camera, prior.network.config.pixels))
        cond, uncond = prior.embed([canonical(prop)]), prior.embed([""])
        rng = torch.Generator().manual_seed(0)
        beliefs = [one_step_x0(prior.network, shown, t, cond, uncond, camera, rng) for t in TIMES]
        pictures = torch.stack([shown, *beliefs])[:, :views, :3]
        rows.append(rearrange((pictures + 1) / 2, "T V C H W -> (T V) C H W"))
    return sheet(torch.stack(rows), zoom=2)


if __name__ == "__main__":
    _, path, _, out = sys.argv
    gate(load_prior(Path(path))).save(out)
