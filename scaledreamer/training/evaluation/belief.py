"""The gate in numbers: how far the prior's belief at late times is from the mean of the true pictures.

    python -m scaledreamer.training.evaluation.belief PRIOR.safetensors

At late times text and camera alone decide what the prior draws, and the best it can draw is the mean over the
proportions that a kind may have. What is between the two is what distillation will learn wrongly; `spread` is what
nobody could know.
"""

import sys
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from scaledreamer.model.cameras import Camera
from scaledreamer.training.diffusion import DiffusionConfig, on_grey
from scaledreamer.training.evaluation.gate import belief as guided
from scaledreamer.training.priors.props import PropsPrior, load_prior
from scaledreamer.training.props.dataset import PIXELS
from scaledreamer.training.props.grammar import canonical
from scaledreamer.training.props.renders import paint, picture
from scaledreamer.training.props.shapes import paints, shape
from scaledreamer.training.props.world import FIRST, WORLDS, Prop, World
from scaledreamer.training.views import sample_views

TIMES = (0.97, 0.9, 0.8, 0.65)
CAMERAS, TRUTHS, DRAWS = 3, 10, 4  # view sets a kind, proportions a view set, and noised ones of them


def true_pictures(prop: Prop, camera: Camera, pixels: int, rng: torch.Generator) -> Float[Tensor, "N V 4 H W"]:
    """The prop with TRUTHS random proportions from the same cameras, as the network sees pictures."""
    pictures = []
    for _ in range(TRUTHS):
        view = picture(shape(prop.kind, prop.size, rng=rng), camera, PIXELS)
        colors = paints(prop).expand(len(camera), -1, -1)
        pictures.append(on_grey(paint(view, colors, prop.material, PIXELS // pixels)))
    return torch.stack(pictures)


@torch.no_grad()
def belief(
    prior: PropsPrior, true: Float[Tensor, "V 4 H W"], t: float, prompt: str, camera: Camera, rng: torch.Generator
) -> Float[Tensor, "V 4 H W"]:
    """x_0 as the prior predicts it from noised true pictures and the prompt, unguided."""
    cond = prior.embed([prompt])
    return guided(prior, true, t, cond, cond, camera, rng, guidance=1.0)


def measure(prior: PropsPrior, kind: str, rng: torch.Generator, world: World = FIRST) -> list[float]:
    """Variance of the true pictures, then the squared distance of mean belief and mean truth at each time."""
    prop, found = next(prop for prop in world.training_props() if prop.kind == kind), []
    for _ in range(CAMERAS):
        camera = sample_views(DiffusionConfig().views, 1, rng)
        true = true_pictures(prop, camera, prior.network.config.pixels, rng)
        row = [float(true.var(0).mean())]
        for t in TIMES:
            beliefs = [belief(prior, true[i], t, canonical(prop), camera, rng) for i in range(DRAWS)]
            row.append(float((torch.stack(beliefs).mean(0) - true.mean(0)).square().mean()))
        found.append(row)
    return torch.tensor(found).mean(0).tolist()


def main() -> None:
    """Print a row a kind and the mean of all."""
    _, path, *name = sys.argv  # the name of a world, if it is not the first
    world = WORLDS[name[0]] if name else FIRST
    prior, rng = load_prior(Path(path)), torch.Generator().manual_seed(1)
    seen = dict.fromkeys(prop.kind for prop in world.training_props())
    table = {kind: measure(prior, kind, rng, world) for kind in seen}
    table["mean"] = torch.tensor(list(table.values())).mean(0).tolist()
    print("kind       spread  " + "  ".join(f"t={t:<5g}" for t in TIMES))
    for kind, row in table.items():
        print(f"{kind:9}  " + "  ".join(f"{value:.4f} " for value in row))


if __name__ == "__main__":
    main()
