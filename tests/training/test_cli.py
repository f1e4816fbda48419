"""scaledreamer-train: presets, overrides, errors, and a whole tiny run from data to files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from scaledreamer.errors import ConfigError, Interrupted
from scaledreamer.model.library import load_generator
from scaledreamer.model.shelf import read_card
from scaledreamer.training.checkpoints import CHECKPOINT
from scaledreamer.training.config import DistillRun, load_preset, preset_names
from scaledreamer.training.priors.props import load_prior
from scaledreamer.training.signals import ends_before_it_begins

TRAIN = [sys.executable, "-c", "from scaledreamer.training.cli import main; main()"]
TINY_PRIOR = [
    "props-prior", "--set", "network.width=24", "--set", "network.depth=2", "--set", "network.stem=8",
    "--set", "data.sets=1", "--set", "data.batch=2", "--set", "data.wordings=1", "--set", "loop.processes=1",
    "--set", "loop.save_every=2", "--set", "loop.log_every=2",
]  # fmt: skip
TINY_GENERATOR = [
    "props-triplane", "--set", "generator.width=24", "--set", "generator.heads=2", "--set", "generator.layers=1",
    "--set", "generator.low_res=2", "--set", "generator.upsample=[8]", "--set", "generator.plane_channels=8",
    "--set", "distill.prompts=1", "--set", "distill.corpus.wordings=1", "--set", "distill.nodes=12",
    "--set", "distill.renderer.samples=8", "--set", "loop.processes=1", "--set", "loop.save_every=2",
    "--set", "loop.log_every=2", "--set", "distill.preview=['a red mug']",
]  # fmt: skip


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TRAIN, *map(str, arguments)], capture_output=True, text=True)


def test_a_budget_is_for_a_dry_run() -> None:
    done = train("props-triplane", "--budget-gb", 2)
    assert done.returncode == 2 and "add --dry-run" in done.stderr


def test_a_signal_before_the_first_step_says_resume_me() -> None:
    with pytest.raises(Interrupted, match="ended by SIGTERM"), ends_before_it_begins():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["props-prior", "props-ceiling"])
def test_a_dry_run_of_what_learns_from_pictures_needs_none(preset: str, tmp_path: Path) -> None:
    small = TINY_PRIOR if preset == "props-prior" else [preset]
    done = subprocess.run([*TRAIN, *small, "--dry-run"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["first_steps"]) == 2 and "pictures" in told["stand_ins"][0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads(name: str) -> None:
    assert load_preset(name, []).loop.steps > 0


def test_an_override_is_typed_and_lands_where_it_should() -> None:
    run = load_preset("props-triplane", ["distill.loss.guidance=3", "loop.steps=7", "distill.loss.kind=sds"][:2])
    assert isinstance(run, DistillRun)
    assert run.distill.loss.guidance.at(0) == 3 and run.loop.steps == 7


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("loop.stepz=7", "loop.stepz"),
        ("loop.steps=many", "loop.steps"),
        ("loop.steps=-1", "greater than 0"),
        ("distill.loss.kind=magic", "magic"),
        ("loop.steps", "key=value"),
        ("loop.steps.more=1", "no group"),
        ("distill.loss.guidance=[1]", "no schedule"),
    ],
)
def test_a_bad_override_is_refused_by_name(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_preset("props-triplane", [override])


def test_bad_commands_are_one_line_and_exit_code_two(tmp_path: Path) -> None:
    for arguments, complaint in (
        (["nonsense"], "unknown preset 'nonsense'"),
        ([], "name a preset"),
        (["--resume", str(tmp_path)], "no model file"),
        (["loop.steps=9", "--resume", str(tmp_path)], "leave out 'loop.steps=9' (overrides go behind --set)"),
    ):
        result = train(*arguments)
        assert result.returncode == 2
        assert complaint in result.stderr and "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_tiny_prior_then_a_tiny_generator_killed_and_resumed_to_the_bit(tmp_path: Path) -> None:
    """From pictures to a prior, from the prior to a generator; SIGKILL in the middle changes no weight."""
    data = ["--set", f"data.data={tmp_path / 'data'}"]
    made = train(*TINY_PRIOR, *data, "--set", "loop.steps=6", "--out", tmp_path / "prior")
    assert made.returncode == 0, made.stderr
    prior = tmp_path / "prior" / "props-prior.safetensors"
    assert load_prior(prior).views == 4

    arguments = [
        *TINY_GENERATOR,
        "--set",
        f"prior.path={prior}",
        "--set",
        "loop.steps=40",
        "--set",
        "loop.preview_every=40",
    ]
    whole = train(*arguments, "--out", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    killed = subprocess.Popen([*TRAIN, *arguments, "--out", str(tmp_path / "killed")], stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed" / CHECKPOINT).exists():
        assert killed.poll() is None
        time.sleep(0.02)
    time.sleep(0.4)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "generator.safetensors").exists(), "it was killed in the middle"
    again = train("--resume", tmp_path / "killed")
    assert again.returncode == 0, again.stderr

    a, b = (load_file(tmp_path / name / "generator.safetensors") for name in ("whole", "killed"))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    card = read_card(tmp_path / "killed" / "generator.safetensors")["card"]
    assert card["steps"] == 40 and card["config"]["distill"]["loss"]["kind"] == "asd"
    assert "mushroom" in card["vocabulary"]["nouns"] and "red" in card["vocabulary"]["words"]
    assert load_generator(tmp_path / "whole" / "generator.safetensors").config.width == 24
    rows = [json.loads(line) for line in (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(2, 41, 2))
    assert (tmp_path / "whole" / "preview" / "0000040.png").exists()
    refused = train(*arguments, "--out", tmp_path / "whole")
    assert refused.returncode == 2 and "--resume" in refused.stderr


@pytest.mark.slow
def test_a_dry_run_builds_everything_and_writes_nothing(tmp_path: Path) -> None:
    result = subprocess.run(
        [*TRAIN, "props-wide", "--dry-run", "--set", "distill.corpus.wordings=1"],
        capture_output=True, text=True, cwd=tmp_path, check=True,
    )  # fmt: skip
    facts = json.loads(result.stdout)
    assert sum(facts["parameters"].values()) > 1_000_000 and facts["stand_ins"] == [] and len(facts["first_steps"]) == 2
    assert list(tmp_path.iterdir()) == []
