"""On a GPU: the tiny models give what they give on the CPU, train, and are served. Opt-in: make test-gpu."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import error

from scaledreamer.export.isosurface import extract_mesh
from scaledreamer.model.cameras import turntable
from scaledreamer.model.generators import (
    AnyGeneratorConfig,
    Conv3DConfig,
    HyperNGPConfig,
    TriplaneTransformerConfig,
    build_generator,
)
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.rendering import LatticeConfig, VolSDFConfig, render
from scaledreamer.model.text import TextEmbedding
from scaledreamer.pipeline import TextTo3D
from scaledreamer.training.cli import build_task
from scaledreamer.training.config import resolve
from scaledreamer.training.loop import Trainer
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.config import StableDiffusionConfig
from scaledreamer.training.priors.stable_diffusion import load_stable_diffusion
from tests.training.priors import tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
WIDTH = 8
GENERATORS: list[AnyGeneratorConfig] = [
    TriplaneTransformerConfig(width=16, text_width=WIDTH, layers=1, heads=2, low_res=4, plane_channels=4),
    Conv3DConfig(text_width=WIDTH, style_width=8, channels=(8, 8), voxel_channels=4, hidden=8),
    HyperNGPConfig(text_width=WIDTH, width=8, grid=HashGridConfig(levels=2, log2_entries=8), hidden=8),
]


def text(prompts: int) -> TextEmbedding:
    rng = torch.Generator().manual_seed(0)
    return TextEmbedding(torch.randn(prompts, 4, WIDTH, generator=rng), torch.randn(prompts, WIDTH, generator=rng))


@torch.no_grad()
@pytest.mark.parametrize("config", GENERATORS, ids=lambda config: config.kind)
@pytest.mark.parametrize("renderer", [VolSDFConfig(proposals=16, fine=8), LatticeConfig(nodes=12, samples=8)])
def test_a_field_and_its_pictures_are_those_of_the_cpu(
    config: AnyGeneratorConfig, renderer: VolSDFConfig | LatticeConfig
) -> None:
    torch.manual_seed(0)
    generator = build_generator(config)
    points, camera = torch.rand(2, 100, 3) * 2 - 1, turntable(4, distance=1.5)
    here = generator(text(2))
    there = generator.cuda()(text(2).to("cuda"))
    assert error(there.query(points.cuda()).sdf.cpu(), here.query(points).sdf) < 1e-4
    seen, expected = render(there, camera.to("cuda"), None, 8, renderer), render(here, camera, None, 8, renderer)
    assert error(seen.rgb.cpu(), expected.rgb) < 3e-3


@torch.no_grad()
@pytest.mark.parametrize("mode", ["fast", "dense"])
def test_a_mesh_is_that_of_the_cpu(mode: Any) -> None:
    torch.manual_seed(0)
    generator = build_generator(GENERATORS[0])
    here = extract_mesh(generator(text(1)), 32, mode)
    there = extract_mesh(generator.cuda()(text(1).to("cuda")), 32, mode)
    assert abs(len(here.faces) - len(there.faces)) <= len(here.faces) // 100


@torch.no_grad()
def test_a_half_precision_prior_says_nearly_what_it_says_in_float32(tmp_path: Path) -> None:
    config = StableDiffusionConfig(path=str(tiny.write_sd(tmp_path)))
    here, there = load_stable_diffusion(config, "cpu"), load_stable_diffusion(config, "cuda")
    assert there.network.dtype == torch.float16
    x_t, t = torch.randn(2, 4, 8, 8), torch.tensor([100, 900])
    expected = here.eps(x_t, t, here.embed(["a mug", "a hat"]))
    found = there.eps(x_t.cuda(), t.cuda(), there.embed(["a mug", "a hat"]))
    assert error(found.cpu(), expected) < 2e-2


@pytest.mark.parametrize("kind", ["stable-diffusion", "mvdream"])
@pytest.mark.parametrize("loss", ["asd", "vsd"])
def test_a_generator_learns_from_a_prior(kind: str, loss: str, tmp_path: Path) -> None:
    folder = str(tiny.write_mvdream(tmp_path) if kind == "mvdream" else tiny.write_sd(tmp_path))
    prior = {"kind": kind, "path": folder} | ({"text": folder} if kind == "mvdream" else {})
    sides = {"view_dependent": True, "perp_neg": -0.5} if kind == "stable-diffusion" else {}
    run = resolve(
        {
            "kind": "distill", "prior": prior, "text_encoder": "prior",
            "generator": {**GENERATORS[0].model_dump(), "text_width": tiny.WIDTH},
            "distill": {
                "corpus": {"kind": "list", "prompts": ["a mug", "a hat"]}, "loss": {"kind": loss}, "pixels": 16,
                "prompts": 2, "views": {"views": 4 if kind == "mvdream" else 1}, "background": {"kind": "harmonic"},
                "renderer": {"kind": "volsdf", "proposals": 16, "fine": 8}, **sides,
            },
            "loop": {"steps": 3, "ema": 0.9},
        },
        [],
    )  # fmt: skip
    trainer = Trainer(build_task(run, "cuda"), run.loop, tmp_path / "run", Rank(), {"kind": "distill"})
    trainer.run()
    assert trainer.skipped == 0 and next(trainer.model.parameters()).is_cuda


def test_the_default_model_makes_the_mesh_of_the_cpu() -> None:
    here, there = (TextTo3D.load(device=device)("a red mushroom", 64) for device in ("cpu", "cuda"))
    assert abs(len(here.faces) - len(there.faces)) <= len(here.faces) // 100
