"""The 2D toy as files: a picture of where each loss leads, with its gradients, and the numbers."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot

from scaledreamer.files import atomic_path
from scaledreamer.training.toy2d import METHODS, MODES, SPREAD, TEXT, Method, Outcome, Toy2DConfig, density, summary

COLORS: dict[Method, str] = {"sds": "#c2571a", "csd": "#7a4fa3", "vsd": "#2f7d4f", "asd": "#1f4e9c"}
EDGE = 2.4  # of the picture; what left it is counted in a corner


def write(outcomes: dict[Method, Outcome], config: Toy2DConfig, out: Path) -> None:
    """Write toy2d.json and toy2d.png to a folder."""
    out.mkdir(parents=True, exist_ok=True)
    facts = {
        "config": config.model_dump(mode="json"),
        "modes": MODES.tolist(),
        "spread": SPREAD,
        "methods": {method: summary(outcome) for method, outcome in outcomes.items()},
    }
    with atomic_path(out / "toy2d.json") as partial:
        partial.write_text(json.dumps(facts, indent=1))
    with atomic_path(out / "toy2d.png") as partial:
        draw(outcomes, partial)


def draw(outcomes: dict[Method, Outcome], path: Path) -> None:
    """A panel a loss: what the text asks for, a few particles' ways and where all of them ended; gradients below."""
    figure = pyplot.figure(figsize=(13, 6.4))
    grid = figure.add_gridspec(2, len(METHODS), height_ratios=(3, 2))
    axis = torch.linspace(-EDGE, EDGE, 121)
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    asked = density(torch.stack([x.flatten(), y.flatten()], -1)).view_as(x)
    for column, (method, outcome) in enumerate(outcomes.items()):
        panel = figure.add_subplot(grid[0, column])
        panel.contourf(x.numpy(), y.numpy(), asked.numpy(), levels=8, cmap="Greys", alpha=0.6)
        for way in outcome.ways.unbind(1):
            panel.plot(*way.T.numpy(), color=COLORS[method], linewidth=0.5, alpha=0.5)
        panel.plot(*outcome.particles.T.numpy(), ".", markersize=3, color=COLORS[method])
        gone = float((outcome.particles.abs() > EDGE).any(-1).float().mean())
        told = summary(outcome)
        panel.set_title(
            f"{method.upper()}: {told['spread_around_mode']:.2f} around a mode (asked: {SPREAD})", fontsize=10
        )
        if gone:
            panel.text(0.97, 0.03, f"{gone:.0%} left the picture", ha="right", fontsize=8, transform=panel.transAxes)
        panel.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal")
    below = figure.add_subplot(grid[1, :])
    for method, outcome in outcomes.items():
        below.plot(outcome.gradient_norms, color=COLORS[method], linewidth=0.9, label=method.upper())
    below.set(yscale="log", xlabel="step", ylabel="gradient, rms a particle")
    below.legend(ncols=len(METHODS), frameon=False)
    below.grid(alpha=0.3)
    figure.suptitle(f"{TEXT!r}: grey is what the prior holds for the text")
    figure.tight_layout()
    figure.savefig(path, dpi=80, format="png")
    pyplot.close(figure)
