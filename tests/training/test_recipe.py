"""The recipe's stages: begun, gone on with after a stop, and left alone when they are finished."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scaledreamer.errors import TrainingError
from scaledreamer.model.shelf import find_model, read_header
from scaledreamer.training.config import DistillRun, PriorRun, load_preset
from scaledreamer.training.priors.props import prior_path
from scaledreamer.training.recipe import CONTRAST, FIRST_PRIOR, GENERATOR, PRIOR, SHAPES, Stage, run, with_card

TINY = Stage("props-wide", "generator.safetensors", "generator", "props.safetensors")
SIZES = [
    "generator.width=24", "generator.heads=2", "generator.layers=1", "generator.low_res=2", "generator.upsample=[8]",
    "generator.plane_channels=8", "distill.prompts=1", "distill.corpus.wordings=1", "distill.nodes=12",
    "distill.renderer.samples=8", "distill.preview=['a red mug']", "loop.processes=1", "loop.save_every=2",
    "loop.steps=2", "distill.embeddings=null",
]  # fmt: skip


def test_the_stages_make_what_the_generator_s_preset_and_the_library_look_for() -> None:
    prior, shapes, generator = (load_preset(stage.preset, []) for stage in (PRIOR, SHAPES, GENERATOR))
    first = load_preset(FIRST_PRIOR.preset, [])
    assert isinstance(prior, PriorRun) and isinstance(first, PriorRun)
    assert prior.loop.start == Path("runs") / FIRST_PRIOR.preset / FIRST_PRIOR.made
    assert prior.network == first.network.model_copy(update={"noise_skip": True})
    assert isinstance(shapes, DistillRun) and isinstance(generator, DistillRun)
    assert generator.loop.start == Path("runs") / SHAPES.preset / SHAPES.made
    assert generator.generator == shapes.generator.model_copy(update={"antialias": True}), (
        "weights fit from one to the next"
    )
    assert generator.prior.kind == "props" and prior_path(generator.prior.path).name == PRIOR.shipped
    assert find_model(None).name == GENERATOR.shipped


def test_a_card_says_more_and_the_model_stays_what_it_was(tmp_path: Path) -> None:
    made, out = find_model(None), tmp_path / "props.safetensors"
    with_card(made, GENERATOR, out, metrics={"seen": {"silhouette_iou": 0.5}})
    before, after = read_header(made, "generator"), read_header(out, "generator")
    assert after["card"]["metrics"]["seen"]["silhouette_iou"] == 0.5 and after["card"]["limits"] == GENERATOR.limits
    assert after["config"]["decoder"].pop("contrast") == CONTRAST
    before["config"]["decoder"].pop("contrast", None)
    assert after["config"] == before["config"] and after["card"]["steps"] == before["card"]["steps"]
    old, new = load_file(made), load_file(out)
    assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)


@pytest.mark.slow
def test_a_stage_is_begun_then_resumed_then_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    made = run(TINY, folder, SIZES)
    assert "2 steps" in capsys.readouterr().out
    made.unlink()  # as if it had been stopped between its last checkpoint and its end
    run(TINY, folder)
    starts = json.loads((folder / "run.json").read_text())["starts"]
    assert [start["step"] for start in starts] == [0, 2]
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a finished stage is not run again"))
    assert run(TINY, folder) == made


@pytest.mark.slow
def test_a_stage_that_stops_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="props-wide stopped with code 2; the same command goes on"):
        run(TINY, tmp_path / "run", ["loop.stepz=3"])
