"""The VolSDF renderer against an official-style twin: forward and backward, one thread, CPU-seconds, alternating.

    python benchmarks/renderer.py                      # about five minutes; on a quiet machine
    python benchmarks/renderer.py --pixels 16 --pairs 1 --subsets 8

The twin below does what the official renderer does, in its order: every query samples the planes anew, the proposals
are asked for colour that nobody looks at, and every sample for the slope of its distance. Official settings: 128
proposals, 64 samples more, near 0.1, far 4. The loss is a fixed random picture's dot product and the eikonal term at
the weight that gives both gradients a say; gradients are those of the planes and of both perceptrons.

Same mathematics: all slopes, nothing left out. Subset: the slope of one sample in eight, drawn anew at each step; its
gradient is that of all in expectation, so the error of a mean over n draws falls like 1 / sqrt(n).
"""

import argparse
import math
import os
import platform
import statistics
import time
from collections.abc import Callable

import torch
from teapot import differentiable, weights
from torch import Tensor
from torch.nn import functional as F

from scaledreamer.model.cameras import Camera, orbit, rays
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.rendering import PlainBackground, VolSDFConfig, render
from scaledreamer.model.rendering.compositing import weights_of
from scaledreamer.model.rendering.density import volsdf_density
from scaledreamer.model.rendering.sampling import resample

NEAR, FAR, PROPOSALS, FINE, SHARPNESS, STEP = 0.1, 4.0, 128, 64, 30.0, 0.01
SUBSET = 1 / 8
Loss = Callable[[TriplaneField], Tensor]


def query(field: TriplaneField, points: Tensor) -> tuple[Tensor, Tensor]:
    """Distance and colour of points [N, 3], as the official geometry answers."""
    at = (points / field.bound)[None, None]
    read = [
        F.grid_sample(field.planes[:, plane], at[..., axes], align_corners=False)[0, :, 0].T
        for plane, axes in enumerate(([0, 1], [0, 2], [2, 1]))
    ]
    features = torch.cat(read, dim=-1)
    raw = field.decoder.rgb_network(features)
    distance = field.decoder.sdf_network(features) + points.norm(dim=-1, keepdim=True) - 0.8
    return distance, torch.sigmoid(raw) * (1 + 2 * 0.001) - 0.001


def slopes(field: TriplaneField, points: Tensor, distance: Tensor) -> Tensor:
    moved = (points[:, None] + STEP * torch.eye(3)).clamp(-field.bound, field.bound)
    return (query(field, moved.reshape(-1, 3))[0].reshape(-1, 3) - distance) / STEP


def official(field: TriplaneField, camera: Camera, pixels: int) -> tuple[Tensor, Tensor]:
    """Colour over mid-grey [R, 3] and the slopes [N, 3] of every sample."""
    origins, directions = (x[0].reshape(-1, 3) for x in rays(camera, pixels, pixels))
    unit, half = torch.tensor([[0.0, 1.0]]).expand(len(origins), 2), torch.full((len(origins), 1), 0.5)

    def along(edges: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        middle = (edges[:, 1:] + edges[:, :-1]) / 2
        return (origins[:, None] + middle[..., None] * directions[:, None]).reshape(-1, 3), edges.diff(dim=-1), middle

    with torch.no_grad():
        spread = resample(unit, unit, PROPOSALS, half)
        points, length, _ = along(FAR * spread + NEAR * (1 - spread))
        distance, _ = query(field, points)
        absorbed = torch.cumsum(volsdf_density(distance.reshape(length.shape), SHARPNESS) * length, dim=-1)
        cdf = torch.cat([torch.zeros(len(origins), 1), -torch.expm1(-absorbed[:, :-1]), torch.ones(len(origins), 1)], 1)
        fine = resample(spread, cdf, FINE, half)
        both = torch.cat([spread, fine], dim=1).sort(dim=1).values
        points, length, _ = along(FAR * both + NEAR * (1 - both))
    distance, color = query(field, points)
    slope = slopes(field, points, distance)
    weight = weights_of(volsdf_density(distance.reshape(length.shape), SHARPNESS) * length)
    seen = (weight[..., None] * color.reshape(*length.shape, 3)).sum(1)
    return seen + 0.5 * (1 - weight.sum(1, keepdim=True)), slope


def of_twin(camera: Camera, pixels: int, picture: Tensor, share: float) -> Loss:
    def loss(field: TriplaneField) -> Tensor:
        seen, slope = official(field, camera, pixels)
        return (seen * picture).sum() + share * (slope.norm(dim=-1) - 1).square().mean()

    return loss


def of_product(
    camera: Camera, pixels: int, picture: Tensor, share: float, config: VolSDFConfig, rng: torch.Generator | None
) -> Loss:
    def loss(field: TriplaneField) -> Tensor:
        seen = render(field, camera, PlainBackground(), pixels, config, rng)
        slope = seen.samples.sdf_gradient.norm(dim=-1)
        return (seen.rgb.reshape(-1, 3) * picture).sum() + share * (slope - 1).square().mean()

    return loss


def gradient(loss: Loss, made: dict[str, Tensor]) -> tuple[Tensor, float]:
    """All gradients in one row, and CPU-seconds of forward and backward."""
    began = time.process_time()
    field = differentiable(made["planes"], *([made[f"{head}.{i}"] for i in range(3)] for head in ("sdf", "rgb")))
    found = torch.autograd.grad(loss(field), list(made.values()))
    return torch.cat([g.flatten() for g in found]), time.process_time() - began


def relative(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


def alternate(first: Loss, second: Loss, made: dict[str, Tensor], pairs: int) -> tuple[float, float, float]:
    """Median CPU-seconds of both, and the median ratio of neighbours in time."""
    times = []
    for pair in range(pairs + 1):
        order = [first, second] if pair % 2 else [second, first]
        taken = [gradient(loss, made)[1] for loss in order]
        times.append(taken if pair % 2 else taken[::-1])
    times = times[1:]  # the first pair warms up
    before, now = (statistics.median(column) for column in zip(*times, strict=True))
    return before, now, statistics.median(a / b for a, b in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--subsets", type=int, default=32, help="at most so many averaged; a power of two")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}; {given.pixels}² rays")
    made = {name: tensor.requires_grad_() for name, tensor in weights().items()}
    camera = orbit(*(torch.tensor([value]) for value in (0.35, 0.7, 2.2, 0.9)))
    picture = torch.randn(given.pixels**2, 3, generator=torch.Generator().manual_seed(2))
    arguments = (camera, given.pixels, picture)
    share = float(gradient(of_twin(*arguments, 0.0), made)[0].norm())
    share /= float((gradient(of_twin(*arguments, 1.0), made)[0] - gradient(of_twin(*arguments, 0.0), made)[0]).norm())
    twin = of_twin(*arguments, share)
    same = of_product(*arguments, share, VolSDFConfig(jitter=False), None)
    rng = torch.Generator().manual_seed(3)
    subset = of_product(*arguments, share, VolSDFConfig(jitter=False, slopes=SUBSET), rng)
    true, product = gradient(twin, made)[0], gradient(same, made)[0]
    print("\n| product | twin, CPU-s | product, CPU-s | ratio | target |\n|---|---|---|---|---|")
    for name, loss, target in (("same mathematics", same, 1.0), ("slopes of 1 in 8", subset, 1.7)):
        before, now, ratio = alternate(twin, loss, made, given.pairs)
        print(f"| {name} | {before:.2f} | {now:.2f} | **{ratio:.2f}** | {target} |", flush=True)
    print(f"\nsame mathematics: gradient {relative(product, true):.1e} off, relative (target 1e-3)")
    print("\n| subsets averaged | gradient's relative error | times sqrt(n) |\n|---|---|---|")
    # Few directions hold most of the error, so one mean says little: eight of the most subsets, on a smaller picture.
    fewer = given.pixels // 2
    arguments = (camera, fewer, picture[: fewer**2], share)
    true = gradient(of_product(*arguments, VolSDFConfig(jitter=False), None), made)[0]
    subset = of_product(*arguments, VolSDFConfig(jitter=False, slopes=SUBSET), rng)
    draws = torch.stack([gradient(subset, made)[0] for _ in range(8 * given.subsets)])
    count = 1
    while count <= given.subsets:
        means = draws.reshape(-1, count, draws.shape[1]).mean(1)
        error = math.sqrt(statistics.fmean(relative(mean, true) ** 2 for mean in means))
        print(f"| {count} | {error:.4f} | {error * math.sqrt(count):.4f} |")
        count *= 2


if __name__ == "__main__":
    main()
