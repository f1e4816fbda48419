"""Small networks that are exported and compiled, and real inputs for them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scaledreamer.model import compile as compiling
from scaledreamer.model.accelerated import PlanesNetwork
from scaledreamer.model.clip_text import CLIPText
from scaledreamer.model.generators.triplane_transformer import (
    SummedPlanesConfig,
    TriplaneTransformer,
    TriplaneTransformerConfig,
)
from scaledreamer.model.pretrained import Source
from tests.training.priors import tiny

TINY = TriplaneTransformerConfig(width=16, text_width=8, layers=1, heads=2, low_res=4, plane_channels=4)
PROPS = TINY.model_copy(
    update={"film": True, "upsample": (6,), "identity_start": True, "decoder": SummedPlanesConfig(hidden=8)}
)


def planes_network(config: TriplaneTransformerConfig = TINY, seed: int = 0) -> PlanesNetwork:
    torch.manual_seed(seed)
    generator = TriplaneTransformer(config)
    for parameter in generator.parameters():
        nn.init.normal_(parameter, std=0.2)  # branches that start at zero too
    return PlanesNetwork(generator.eval().requires_grad_(False))


def text(prompts: int, mask: bool = False) -> tuple[Tensor, ...]:
    rng = torch.Generator().manual_seed(prompts)
    tokens, pooled = torch.randn(prompts, 5, 8, generator=rng), torch.randn(prompts, 8, generator=rng)
    return (tokens, pooled, torch.arange(5) < torch.arange(2, prompts + 2)[:, None]) if mask else (tokens, pooled)


def clip(folder: Path) -> CLIPText:
    torch.manual_seed(0)
    tiny.write_text(folder)
    return CLIPText.load(Source(str(folder), offline=True))


def assert_same(found: Any, expected: Any, atol: float = 1e-6) -> None:
    for one, other in zip(compiling.outputs(found), compiling.outputs(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=atol)
