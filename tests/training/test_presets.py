"""The published experiments as presets: their values, their sizes, and dry runs with stand-ins."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from scaledreamer.errors import ConfigError
from scaledreamer.training.cli import build_model, build_task
from scaledreamer.training.config import CeilingRun, DistillRun, Run, load_preset, on_top, preset_names
from scaledreamer.training.dry_run import dry_run, parts
from scaledreamer.training.losses import ASDConfig
from scaledreamer.training.optimizers import AdamConfig, AdanConfig
from scaledreamer.training.priors.config import PropsPriorConfig

PARITY = Path(__file__).parents[1] / "parity"
PUBLISHED = [name for name in preset_names() if not name.startswith("props")]
# preset: (geometry, background) of the official classes
SIZES = {
    "mg15-hyper-ingp": (12_948_464, 342_336),
    "at2520-conv3d": (88_686_923, 448),
    "df415-conv3d": (88_686_923, 448),
    "cp100k-conv3d": (144_798_155, 448),
    "dl17k-triplane": (120_564_480, 448),
    "dl17k-triplane-1gpu": (120_564_480, 448),
    "single-sd": (12_604_272, 1_581_184 + 432),
    "single-mv": (12_604_272, 1_581_184 + 432),
}


def published(name: str, *overrides: str) -> DistillRun:
    run = load_preset(name, list(overrides))
    assert isinstance(run, DistillRun)
    return run


@pytest.mark.parametrize(
    ("model", "ceiling"), [("props-triplane", "props-ceiling"), ("props-wide-smooth", "props-wide-ceiling")]
)
def test_a_ceiling_is_the_same_generator_fitted_to_the_same_world(model: str, ceiling: str) -> None:
    distilled, fitted = published(model), load_preset(ceiling, [])
    assert isinstance(fitted, CeilingRun) and fitted.generator == distilled.generator
    assert distilled.distill.corpus.kind == "props" and fitted.ceiling.data.world == distilled.distill.corpus.world


@pytest.mark.parametrize("name", SIZES)
def test_full_sizes_are_the_official_ones(name: str) -> None:
    with torch.device("meta"):
        found = parts(build_model(published(name)))
    counts = tuple(sum(p.numel() for p in found[part].parameters()) for part in ("generator", "background"))
    assert counts == SIZES[name]


@pytest.mark.parametrize(
    ("name", "steps", "window", "opaque_at_end", "eikonal_at_half"),
    [
        ("mg15-hyper-ingp", 50_000, (0.26, 0.74), 10.0, 1.0),
        ("at2520-conv3d", 50_000, (0.26, 0.74), 10.0, 1.0),
        ("df415-conv3d", 100_000, (0.26, 0.74), 10.0, 1.0),
        ("cp100k-conv3d", 300_000, (0.26, 0.74), 10.0, 1.0),
        ("dl17k-triplane", 100_000, (0.26, 0.74), 1.0, 0.01),
        ("dl17k-triplane-1gpu", 50_000, (0.26, 0.74), 1.0, 0.01),
    ],
)
def test_schedules_are_the_published_ones(
    name: str, steps: int, window: tuple[float, float], opaque_at_end: float, eikonal_at_half: float
) -> None:
    run = published(name)
    distill, half = run.distill, (steps // 2, steps)
    assert run.loop.steps == steps
    found = distill.times.t_min.at(*half), distill.times.t_max.at(*half)
    assert found == pytest.approx(window, abs=1e-4)
    assert distill.times.t_min.at(0, steps) == 0.5 and distill.times.t_max.at(0, steps) == 0.98
    assert distill.regularizers.opaque.at(int(0.8 * steps), steps) == 0
    assert distill.regularizers.opaque.at(steps, steps) == pytest.approx(opaque_at_end, abs=1e-3)
    assert distill.regularizers.eikonal.at(*half) == eikonal_at_half
    assert distill.regularizers.sparsity.at(*half) == 20
    assert isinstance(distill.loss, ASDConfig) and distill.loss.guidance.at(*half) == 7.5
    assert distill.loss.shift_ratio.at(*half) == 0.1 and distill.loss.weight == "sds"


def test_optimisers_and_rates_are_the_published_ones() -> None:
    for name in ("mg15-hyper-ingp", "at2520-conv3d", "df415-conv3d"):
        optimizer = published(name).loop.optimizer
        assert isinstance(optimizer, AdamConfig) and (optimizer.lr, optimizer.betas) == (0.004, (0.0, 0.99))
    for name, lr in (("cp100k-conv3d", 0.004), ("dl17k-triplane", 2e-4), ("dl17k-triplane-1gpu", 2e-4)):
        adan = published(name).loop.optimizer
        assert isinstance(adan, AdanConfig) and (adan.lr, adan.eps) == (lr, 1e-15)
    assert published("cp100k-conv3d").loop.lr_factors == {"background": 0.25}
    assert not published("dl17k-triplane").loop.lr_factors
    assert (published("dl17k-triplane").loop.processes, published("dl17k-triplane").loop.accumulate) == (8, 2)
    assert (published("dl17k-triplane-1gpu").loop.processes, published("dl17k-triplane-1gpu").loop.accumulate) == (1, 8)


def test_one_prompt_s_pictures_grow_at_step_10000() -> None:
    pixels = published("single-sd").distill.pixels
    assert [pixels.at(step, 25_000) for step in (0, 9_999, 10_000, 24_999)] == [64, 64, 256, 256]


BASELINES = {
    "mg15-sds": "mg15-hyper-ingp", "mg15-vsd": "mg15-hyper-ingp", "df415-sds": "df415-conv3d",
    "df415-csd": "df415-conv3d", "df415-vsd": "df415-conv3d", "cp100k-csd": "cp100k-conv3d",
    "cp100k-vsd": "cp100k-conv3d", "single-sd-sds": "single-sd", "single-sd-vsd": "single-sd",
}  # fmt: skip


@pytest.mark.parametrize(("name", "family"), BASELINES.items())
def test_a_baseline_differs_from_its_asd_in_the_loss_alone(name: str, family: str) -> None:
    ours, theirs = published(family).model_dump(), published(name).model_dump()
    assert ours["distill"].pop("loss") != theirs["distill"].pop("loss")
    assert ours == theirs


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_generator_reads_its_prior_s_own_words(name: str) -> None:
    run = published(name)
    assert run.text_encoder == "prior" and not isinstance(run.prior, PropsPriorConfig)


def test_a_group_of_another_kind_replaces_the_whole_group() -> None:
    below = {"loss": {"kind": "asd", "shift": 1, "guidance": 2}, "steps": 3}
    assert on_top(below, {"loss": {"kind": "sds", "guidance": 5}}) == {
        "loss": {"kind": "sds", "guidance": 5}, "steps": 3
    }  # fmt: skip
    assert on_top(below, {"loss": {"guidance": 5}})["loss"] == {"kind": "asd", "shift": 1, "guidance": 5}
    assert below["loss"] == {"kind": "asd", "shift": 1, "guidance": 2}, "what lies below stays as it was"


def dry(run: Run) -> dict[str, Any]:
    facts = dry_run(run, build_task, build_model)
    assert json.loads(json.dumps(facts)) == facts
    assert len(facts["first_steps"]) == 2 and all(step["grad_norm"] > 0 for step in facts["first_steps"])
    return facts


def test_a_dry_run_stands_tiny_networks_in_and_says_so() -> None:
    facts = dry(published("mg15-hyper-ingp"))
    assert facts["parameters"] == dict(zip(("generator", "background"), SIZES["mg15-hyper-ingp"], strict=True))
    told = " ".join(facts["stand_ins"])
    assert "stable-diffusion-2-1-base" in told and "magic3d_15_prompt_library.json" in told


def test_a_corpus_that_is_there_is_read(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("")
    run = published("mg15-hyper-ingp", f"distill.corpus={{kind: file, path: {path}}}")
    with pytest.raises(ConfigError, match="holds no prompt"):
        dry(run)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_experiment_dry_runs(name: str) -> None:
    dry(published(name, "loop.accumulate=1"))
