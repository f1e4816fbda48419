"""A run's prior from its config, and the generator that reads the prior's own text encoder."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from scaledreamer.errors import ConfigError
from scaledreamer.training.cli import build_task
from scaledreamer.training.config import DistillRun, resolve
from scaledreamer.training.embeddings import RememberingEncoder
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.build import build_prior
from scaledreamer.training.priors.config import (
    MVDreamConfig,
    PropsPriorConfig,
    StableDiffusionConfig,
    encoder_name,
)
from scaledreamer.training.step import DistillTask
from tests.training.priors import tiny


def run_of(folder: Path, corpus: Path, prior: dict[str, Any], distill: dict[str, Any]) -> DistillRun:
    run = resolve(
        {
            "kind": "distill",
            "generator": {"kind": "triplane-transformer",
                "width": 16, "text_width": tiny.WIDTH, "layers": 1, "heads": 2, "low_res": 2, "plane_channels": 4,
                "radius": 1.0, "sphere_bias": 0.5, "decoder": {"kind": "summed", "hidden": 8},
            },
            "prior": prior, "text_encoder": "prior",
            "distill": {
                "corpus": {"kind": "file", "path": corpus}, "pixels": 16,
                "renderer": {"kind": "lattice", "nodes": 8, "samples": 6}, **distill,
            },
            "loop": {"steps": 1},
        },
        [],
    )  # fmt: skip
    assert isinstance(run, DistillRun)
    return run


@pytest.mark.parametrize("kind", ["stable-diffusion", "mvdream"])
def test_a_run_distils_a_pretrained_prior_from_text_to_gradient(kind: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a mug\na hat\n")
    if kind == "mvdream":
        folder = tiny.write_mvdream(tmp_path / "prior")
        prior, distill = {"kind": kind, "path": str(folder), "text": str(folder)}, {"views": {"views": 4}}
    else:
        folder = tiny.write_sd(tmp_path / "prior")
        prior = {"kind": kind, "path": str(folder)}
        distill = {"views": {"views": 1}, "view_dependent": True, "perp_neg": -0.5, "prompts": 2}
    run = run_of(folder, corpus, prior, {"loss": {"kind": "asd"}, **distill})
    task = build_task(run)
    assert isinstance(task, DistillTask) and isinstance(task.encoder, RememberingEncoder)
    assert task.encoder is task.prior.encoder and task.encoder.name == encoder_name(run.prior)  # type: ignore[attr-defined]
    loss, _ = task.loss(0, Rank())
    loss.backward()
    gradients = [p.grad for p in task.model.parameters() if p.grad is not None]
    assert gradients and all(bool(gradient.isfinite().all()) for gradient in gradients)
    assert any(bool(gradient.any()) for gradient in gradients)
    again, _ = build_task(run).loss(0, Rank())
    assert torch.equal(loss, again), "the same step draws the same numbers, the posterior's too"


def test_the_name_of_the_prior_s_encoder_goes_into_the_model_file() -> None:
    assert encoder_name(PropsPriorConfig()) == "minilm"
    assert encoder_name(StableDiffusionConfig(path="a/b")) == "clip:a/b"
    assert encoder_name(MVDreamConfig(path="x.pt", text="a/b")) == "clip:a/b"


def test_the_props_prior_reads_sentences() -> None:
    prior, encoder = build_prior(PropsPriorConfig())
    assert isinstance(encoder, RememberingEncoder) and encoder.name == "minilm" and prior.views == 4


def test_a_missing_library_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("scaledreamer.training.priors.mvdream")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "scaledreamer.training.priors.unet", raising=False)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        ConfigError, match=r"stable-diffusion needs diffusers; run: pip install 'scaledreamer\[train\]'"
    ):
        build_prior(StableDiffusionConfig(path="folder"))
