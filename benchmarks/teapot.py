"""A triplane of official sizes whose surface is a tea-pot: what the benchmarks of extraction and rendering look at.

3 planes of 32 channels and 64 x 64 texels over [-2, 2]^3, two perceptrons without biases, fitted to an analytic
distance: a body, a lid's knob, a spout, a ring for a handle and three legs, in one piece. Fitted once and kept in out/.
"""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from scaledreamer.model.fields.triplane import TriplaneField

KEPT = Path("out/benchmarks/teapot.safetensors")
STEPS, POINTS = 500, 8192


def capsule(p: Tensor, a: tuple[float, float, float], b: tuple[float, float, float], radius: float) -> Tensor:
    start, along = torch.tensor(a), torch.tensor(b) - torch.tensor(a)
    share = ((p - start) @ along / (along @ along)).clamp(0, 1)
    return (p - start - share[:, None] * along).norm(dim=-1) - radius


def teapot(p: Tensor) -> Tensor:
    """Signed distance, [N, 3] to [N]."""
    body = (p * torch.tensor([1.0, 1.0, 1.25])).norm(dim=-1) / 1.1 - 0.55
    knob = (p - torch.tensor([0.0, 0.0, 0.55])).norm(dim=-1) - 0.12
    spout = capsule(p, (0.4, 0.0, -0.1), (0.95, 0.0, 0.35), 0.11)
    ring = torch.hypot(torch.hypot(p[:, 0] + 0.65, p[:, 2]) - 0.3, p[:, 1]) - 0.07
    legs = [
        capsule(p, (0.3 * math.cos(a), 0.3 * math.sin(a), -0.4), (0.38 * math.cos(a), 0.38 * math.sin(a), -0.7), 0.09)
        for a in (0.5, 2.6, 4.7)
    ]
    return torch.stack([body, knob, spout, ring, *legs]).amin(dim=0)


def weights() -> dict[str, Tensor]:
    """Planes and perceptrons; fitted with Adam when they are not in out/ yet (about a minute)."""
    if KEPT.exists():
        return load_file(KEPT)
    rng = torch.Generator().manual_seed(0)
    sizes = {
        "sdf.0": (64, 96),
        "sdf.1": (64, 64),
        "sdf.2": (1, 64),
        "rgb.0": (64, 96),
        "rgb.1": (64, 64),
        "rgb.2": (3, 64),
    }
    made = {name: torch.randn(size, generator=rng) / size[1] ** 0.5 for name, size in sizes.items()}
    made["planes"] = 0.1 * torch.randn(1, 3, 32, 64, 64, generator=rng)
    for tensor in made.values():
        tensor.requires_grad_()
    optimizer = torch.optim.Adam(made.values(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        points = 4 * torch.rand(POINTS, 3, generator=rng) - 2
        near = points[POINTS // 2 :] / 2  # half of them near the object
        points[POINTS // 2 :] = near
        said = field(made).query(points[None])
        true, color = teapot(points), 0.5 + 0.5 * torch.sin(3 * points)
        loss = (said.sdf[0, :, 0] - true).abs().mean() + 0.1 * F.mse_loss(said.rgb[0], color)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    made = {name: tensor.detach() for name, tensor in made.items()}
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    save_file(made, KEPT)
    print(f"fitted {KEPT}: mean distance error {loss.item():.4f}")
    return made


def field(made: dict[str, Tensor], scale: float = 1.0) -> TriplaneField:
    """The field, its planes multiplied by `scale`."""
    heads = [[made[f"{head}.{layer}"] for layer in range(3)] for head in ("sdf", "rgb")]
    return differentiable(made["planes"] * scale, heads[0], heads[1])


def differentiable(planes: Tensor, sdf: list[Tensor], rgb: list[Tensor]) -> TriplaneField:
    made = TriplaneField.from_weights(planes, sdf, rgb)
    for network, given in ((made.decoder.sdf_network, sdf), (made.decoder.rgb_network, rgb)):
        for layer, weight in zip(network[::2], given, strict=True):
            del layer.weight
            layer.weight = weight  # itself, not a copy: it is fitted
    return made


def untrained() -> TriplaneField:
    """A noisy ball, as a generator makes before training."""
    rng = torch.Generator().manual_seed(1)
    heads = [
        [torch.randn(o, i, generator=rng) / i**0.5 for o, i in ((64, 96), (64, 64), (last, 64))] for last in (1, 3)
    ]
    return TriplaneField.from_weights(0.12 * torch.randn(1, 3, 32, 64, 64, generator=rng), heads[0], heads[1])
