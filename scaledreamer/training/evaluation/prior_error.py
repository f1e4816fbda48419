"""How well the prior predicts the noise of pictures that are not true, and how reading it later helps (Figure 2).

ScaleDreamer's observation (arXiv:2407.02040, Figure 2): a frozen prior errs more on the renders of an object in the
making than on true pictures, and less when it is read at a later time; so ASD can do without VSD's fine-tuned copy. In
the props world both hold where shapes are decided, at late times; early on it is detail that is hard to predict, and a
ball has none.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import torch
from einops import rearrange
from jaxtyping import Float
from matplotlib import pyplot
from torch import Tensor

from scaledreamer.files import atomic_path
from scaledreamer.model.cameras import Camera, turntable
from scaledreamer.model.generators import Generator
from scaledreamer.model.rendering import LatticeConfig, PlainBackground, render
from scaledreamer.training.diffusion import on_grey
from scaledreamer.training.distillation.base import every_view
from scaledreamer.training.evaluation.gate import ball
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.priors.props import PropsPrior
from scaledreamer.training.props.dataset import PIXELS
from scaledreamer.training.props.grammar import canonical
from scaledreamer.training.props.renders import paint, picture
from scaledreamer.training.props.shapes import paints, shape
from scaledreamer.training.props.world import FIRST, Prop, World

TIMES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
T_MIN = 0.02  # ASD's later time is t + ratio (t - T_MIN)
STRIDE = 7  # through the props of a kind
LOOK = LatticeConfig(nodes=32, samples=40, opacity="unbiased", shaded=True, sharpness=92.0)  # as the generator trains


@dataclass(frozen=True)
class Pictures:
    """View sets that a prior judges: latents, their prompts' conditions (a row a set) and cameras."""

    x_0: Float[Tensor, "B C h w"]
    cond: Condition
    camera: Camera


@torch.no_grad()
def noise_error(
    prior: Prior, shown: Pictures, times: Sequence[float], ratio: float, rng: torch.Generator
) -> list[float]:
    """Mean of (eps(x_t', t', text) - noise)^2 at each t, where t' = t + ratio (t - T_MIN) (Eq. 9 with u = 1).

    Two generators of one seed draw the same noise, so that readings at t and at t' can be compared.
    """
    errors = []
    for fraction in times:
        t = torch.full((len(shown.x_0),), prior.process.time(fraction))
        later = prior.process.shift(t, ratio, prior.process.time(T_MIN))
        noise = torch.randn(shown.x_0.shape, generator=rng)
        x_t = prior.process.add_noise(shown.x_0, noise, later)
        cond = every_view(shown.cond, len(shown.x_0))
        assert isinstance(cond, Condition)
        errors.append(float((prior.eps(x_t, later, cond, shown.camera) - noise).square().mean()))
    return errors


def chosen_props(count: int, world: World = FIRST) -> list[Prop]:
    """`count` training props of a world: kinds evenly spread, in changing sizes and colours."""
    of_kind: dict[str, list[Prop]] = {}
    for prop in world.training_props():
        of_kind.setdefault(prop.kind, []).append(prop)
    kinds = list(of_kind.values())
    some = [kinds[n * len(kinds) // count if count <= len(kinds) else n % len(kinds)] for n in range(count)]
    return [props[STRIDE * n % len(props)] for n, props in enumerate(some)]


def show(prior: PropsPrior, props: list[Prop], generator: Generator | None) -> dict[str, Pictures]:
    """The same props and cameras as true pictures, as balls in the right colour, and as a generator renders them."""
    camera = turntable(prior.views, elevation=0.4)
    cameras = Camera(camera.c2w.repeat(len(props), 1, 1), camera.fovy.repeat(len(props)))
    cond, pixels = prior.embed([canonical(prop) for prop in props]), prior.network.config.pixels

    def gathered(latents: Callable[[Prop], Tensor]) -> Pictures:
        return Pictures(torch.cat([latents(prop) for prop in props]), cond, cameras)

    def true(prop: Prop) -> Float[Tensor, "V 4 h w"]:
        view = picture(shape(prop.kind, prop.size), camera, PIXELS)
        colors = paints(prop).expand(len(camera), -1, -1)
        return on_grey(paint(view, colors, prop.material, PIXELS // pixels))

    def rendered(prop: Prop) -> Float[Tensor, "V 4 h w"]:
        assert generator is not None
        field = generator(prior.encoder.encode([canonical(prop)]))
        seen = render(field, camera, PlainBackground(), pixels, LOOK)
        return prior.encode(rearrange(torch.cat([seen.rgb, seen.opacity], -1), "V H W C -> V C H W"))

    shown = {"true pictures": gathered(true), "balls": gathered(lambda prop: on_grey(ball(prop.color, camera, pixels)))}
    if generator is not None:
        with torch.no_grad():
            shown["renders"] = gathered(rendered)
    return shown


def evaluate_prior(
    prior: PropsPrior, generator: Generator | None, out: Path, sets: int = 16, ratio: float = 0.1, world: World = FIRST
) -> dict[str, Any]:
    """Measure on `sets` view sets of the world's props and write prior-error.json and prior-error.png to `out`.

    Errors are per entry of the noise, so 1 is what predicting nothing scores.
    """
    curves = {}
    for name, shown in show(prior, chosen_props(sets, world), generator).items():
        curves[name] = {
            reading: noise_error(prior, shown, TIMES, shift, torch.Generator().manual_seed(0))
            for reading, shift in (("frozen", 0.0), ("later", ratio))
        }
    facts = {"times": list(TIMES), "ratio": ratio, "t_min": T_MIN, "sets": sets, "error": curves}
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "prior-error.json") as partial:
        partial.write_text(json.dumps(facts, indent=1))
    with atomic_path(out / "prior-error.png") as partial:
        draw(facts, partial)
    return facts


def draw(facts: dict[str, Any], path: Path) -> None:
    """A colour for each kind of picture; whole lines at t, broken ones at the later time."""
    figure, panel = pyplot.subplots(figsize=(7, 4.2))
    for (name, readings), color in zip(facts["error"].items(), ("#2f7d4f", "#c2571a", "#1f4e9c"), strict=False):
        panel.plot(facts["times"], readings["frozen"], color=color, label=f"{name}, at t")
        label = f"{name}, at t + {facts['ratio']:g} (t - {facts['t_min']:g})"
        panel.plot(facts["times"], readings["later"], "--", color=color, label=label)
    panel.set(xlabel="t", ylabel="mean squared error of the predicted noise", yscale="log")
    panel.legend(frameon=False, fontsize=8)
    panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=100, format="png")
    pyplot.close(figure)
