"""Every generator with every loss through the command line, from a diffusers folder and from a .pt; then served."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from scaledreamer.model.shelf import read_card
from scaledreamer.pipeline import TextTo3D
from scaledreamer.training.checkpoints import CHECKPOINT
from scaledreamer.training.cli import train
from tests.server.running import running
from tests.training.priors import tiny
from tests.training.priors.test_mvdream_parity import HEAD_CHANNELS, recorded

GRID = {"levels": 2, "log2_entries": 8}
GENERATORS: dict[str, dict[str, Any]] = {
    "triplane-transformer": {"width": 16, "layers": 1, "heads": 2, "low_res": 2, "plane_channels": 4},
    "conv3d": {"style_width": 8, "channels": [8, 8], "voxel_channels": 4, "hidden": 8, "sphere_bias": 0.8},
    "hyper-ingp": {"width": 8, "grid": GRID, "hidden": 8},
}
LOSSES = ("asd", "sds", "csd", "vsd")
PRIORS = ("folder", "pt")
command = typer.Typer()
command.command()(train)


@pytest.fixture(scope="module")
def priors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Settings that differ between a single-view folder and the released four-view file; both read text 32 wide."""
    folder = tmp_path_factory.mktemp("priors")
    sd = tiny.write_sd(folder / "sd")
    torch.save(recorded(), folder / "sd-v2.1-base-4view.pt")
    pt = {
        "kind": "mvdream",
        "path": str(folder / "sd-v2.1-base-4view.pt"),
        "text": str(sd),
        "head_channels": HEAD_CHANNELS,
    }
    four = {"views": 4, "elevation_deg": [0, 30], "distance": [1.2, 1.5], "fovy_deg": [40, 60]}
    return {
        "folder": {"prior": {"kind": "stable-diffusion", "path": str(sd)}},
        "pt": {
            "prior": pt, "distill.views": four, "distill.times.shared": "batch", "distill.view_dependent": False,
            "distill.perp_neg": 0.0,
        },
    }  # fmt: skip


def arguments(generator: str, loss: str, prior: dict[str, Any], out: Path) -> list[str]:
    reads = {} if generator == "prompt-ingp" else {"text_width": tiny.WIDTH}
    settings = {
        "generator": {"kind": generator, **GENERATORS[generator], **reads},
        "distill.corpus": {"kind": "list", "prompts": ["a mug", "a hat"]},
        "distill.loss": {"kind": loss, "guidance": 3.0},
        "distill.background": {"kind": "harmonic", "color": "sigmoid", "random_color": 0.5},
        "distill.renderer": {"kind": "volsdf", "proposals": 8, "fine": 8},
        "distill.pixels": 8, "distill.preview": ["a mug"], "loop.preview_every": 2,
        "loop.steps": 2, "loop.save_every": 1, "loop.log_every": 1, **prior,
    }  # fmt: skip
    sets = [f"{key}={yaml.safe_dump(value, default_flow_style=True).strip()}" for key, value in settings.items()]
    return ["mg15-hyper-ingp", *(part for each in sets for part in ("--set", each)), "--out", str(out)]


def check(generator: str, loss: str, prior: str, settings: dict[str, Any], out: Path) -> TextTo3D:
    """Train, read the log, load the model as a user would, and make a mesh."""
    result = CliRunner().invoke(command, arguments(generator, loss, settings, out), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2] and all(row["skipped"] == 0 for row in rows)
    assert all(math.isfinite(row[key]) for row in rows for key in ("loss", "grad_norm", "sd_grad_norm"))
    assert ("lora_loss" in rows[0]) == (loss == "vsd") and rows[1]["sd_grad_norm"] > 0
    assert (out / CHECKPOINT).exists() and (out / "preview" / "0000002.png").exists()
    header = read_card(out / "generator.safetensors")
    text = settings["prior"].get("text", settings["prior"]["path"])
    assert header["text_encoder"] == f"clip:{text}" and header["card"]["config"]["distill"]["loss"]["kind"] == loss
    pipe = TextTo3D.load(out / "generator.safetensors", text_encoder=text)
    mesh = pipe("a mug", resolution=32)
    assert len(mesh.faces) > 100
    return pipe


@pytest.mark.parametrize(("generator", "loss", "prior"), [("hyper-ingp", "asd", "folder"), ("conv3d", "vsd", "pt")])
def test_a_generator_is_distilled_through_the_command_line(
    generator: str, loss: str, prior: str, priors: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    check(generator, loss, prior, priors[prior], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("generator", GENERATORS)
def test_every_generator_with_every_loss_from_every_prior(
    generator: str, loss: str, prior: str, priors: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    check(generator, loss, prior, priors[prior], tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("generator", GENERATORS)
def test_a_distilled_generator_is_served(generator: str, priors: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    settings = priors["folder"]
    check(generator, "asd", "folder", settings, tmp_path / "run")
    model = str(tmp_path / "run" / "generator.safetensors")
    text_encoder = settings["prior"]["path"]
    with running(tmp_path / "data", real=True, model=model, text_encoder=text_encoder) as client:
        job = client.post("/generate", json={"prompt": "a mug", "resolution": 32, "preset": "raw"}).json()
        assert job["status"] == "succeeded", job
        assert client.get(job["files"][0]["url"]).content[:4] == b"glTF"
