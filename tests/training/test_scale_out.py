"""Many processes: our own or a launcher's, the same run; and what another number of them makes of a checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from scaledreamer.errors import TrainingError
from scaledreamer.training import checkpoints
from scaledreamer.training.checkpoints import CHECKPOINT
from scaledreamer.training.config import DistillRun, continued, load_preset
from scaledreamer.training.loop import LoopConfig, Trainer
from scaledreamer.training.metrics import METRICS, read_rows
from scaledreamer.training.optimizers import AdanConfig
from scaledreamer.training.parallel import GIVEN, Rank, given_place, launch
from scaledreamer.training.record import RECORD
from scaledreamer.training.signals import RESUME_ME
from tests.training.priors import tiny
from tests.training.test_loop import Regression
from tests.training.test_matrix import arguments
from tests.training.test_step import task

STEPS = 6
ADAN = AdanConfig(lr=1e-2)


def model_in(folder: Path) -> dict[str, Tensor]:
    return {name: value for name, value in load_file(folder / CHECKPOINT).items() if name.startswith("model.")}


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys() and one
    return all(torch.allclose(value, other[name], rtol=0, atol=1e-6) for name, value in one.items())


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys() and one
    return all(torch.equal(value, other[name]) for name, value in one.items())


def distilled(corpus: Path, folder: Path, loss: str, options: dict[str, Any], until: int, rank: Rank) -> None:
    """A tiny Triplane-Transformer under ASD and the like; where the folder has a checkpoint, the run goes on."""
    config = LoopConfig.model_validate(
        {"steps": STEPS, "processes": rank.count, "ema": 0.9, "max_grad_norm": 1.0, **options}
    )
    run = Trainer(task(corpus, loss), config, folder, rank, {"kind": "test"})
    if checkpoints.exists(folder):
        run.restore()
    if until == STEPS:
        run.run()
    while run.step < until:
        run.advance()
    run.save()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("a mug\na hat\na red house\na tall lamp\na blue chair\n")
    return path


@pytest.mark.parametrize("loss", ["asd", "vsd"])
def test_two_processes_distil_what_one_does_with_their_batches(corpus: Path, tmp_path: Path, loss: str) -> None:
    launch(partial(distilled, corpus, tmp_path / "two", loss, {}, STEPS), 2)
    if loss == "vsd":  # its copy of the prior learns after every batch, so one after the other is another order
        again = partial(distilled, corpus, tmp_path / "again", loss, {}, STEPS)
        launch(again, 2)
        assert equal(load_file(tmp_path / "two" / CHECKPOINT), load_file(tmp_path / "again" / CHECKPOINT))
        return
    distilled(corpus, tmp_path / "one", loss, {"accumulate": 2}, STEPS, Rank())
    assert close(load_file(tmp_path / "two" / CHECKPOINT), load_file(tmp_path / "one" / CHECKPOINT))


class Combined(Regression):
    """Both processes' batches as one."""

    def loss(self, step: int, rank: Rank) -> tuple[Tensor, dict[str, float]]:
        x = torch.cat([torch.randn(16, 4, generator=Rank(index, 2).rng(0, step)) for index in range(2)])
        return (self.model(x) - x[:, :2]).square().mean(), {}


def regress(folder: Path, rank: Rank) -> None:
    config = LoopConfig(steps=STEPS, processes=rank.count, optimizer=ADAN)
    Trainer(Regression(), config, folder, rank, {"kind": "test"}).run()


def test_two_processes_are_one_with_the_combined_batch(tmp_path: Path) -> None:
    launch(partial(regress, tmp_path / "two"), 2)
    config = LoopConfig(steps=STEPS, optimizer=ADAN)
    Trainer(Combined(), config, tmp_path / "one", Rank(), {"kind": "test"}).run()
    assert close(model_in(tmp_path / "two"), model_in(tmp_path / "one"))


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_on_another_number_of_processes_a_run_goes_on_with_the_same_batches(
    corpus: Path, tmp_path: Path, before: int, after: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two batches a step, however they are shared out."""

    def live(folder: str, processes: int, until: int) -> None:
        options = {"accumulate": 2 // processes}
        launch(partial(distilled, corpus, tmp_path / folder, "asd", options, until), processes)

    live("whole", before, STEPS)
    live("changed", before, 3)
    assert "batches a step" not in capfd.readouterr().err
    live("changed", after, STEPS)
    warning = capfd.readouterr().err
    assert warning.count("warning") == 1 and "equal to rounding and no more to the bit" in warning
    assert close(load_file(tmp_path / "whole" / CHECKPOINT), load_file(tmp_path / "changed" / CHECKPOINT))


def test_other_batches_are_told_and_weights_and_counters_go_on(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    launch(partial(distilled, corpus, tmp_path, "asd", {}, 3), 2)
    saved = model_in(tmp_path)
    run = Trainer(task(corpus, "asd"), LoopConfig(steps=STEPS, ema=0.9), tmp_path, Rank(), {"kind": "test"})
    run.restore()
    assert run.step == 3
    assert all(torch.equal(saved[f"model.{name}"], value) for name, value in run.model.state_dict().items())
    warning = capfd.readouterr().err
    assert "2 batches a step, 2 processes with 1 each, are now 1 batches a step, 1 processes with 1 each" in warning
    assert "the batches are others" in warning


@pytest.mark.parametrize(
    ("overrides", "processes", "accumulate"),
    [
        ([], 4, 2),
        (["loop.processes=2"], 2, 4),
        (["loop.processes=8"], 8, 1),
        (["loop.processes=3"], 3, 3),  # nine, the nearest to eight
        (["loop.processes=16"], 16, 1),
        (["loop.processes=2", "loop.accumulate=1"], 2, 1),
    ],
)
def test_a_resumed_command_shares_a_steps_batches_out_anew(
    overrides: list[str], processes: int, accumulate: int
) -> None:
    run = load_preset("props-triplane", ["loop.processes=4", "loop.accumulate=2"])
    again = continued(run.model_dump(mode="json"), overrides)
    assert isinstance(again, DistillRun)
    assert (again.loop.processes, again.loop.accumulate) == (processes, accumulate)


def start_apart(folder: Path, rank: Rank) -> None:
    apart = Regression()
    if rank.index == 1:
        with torch.no_grad():
            next(apart.model.parameters()).add_(1e-6)
    Trainer(apart, LoopConfig(steps=2), folder, rank, {"kind": "test"}).run()


def test_processes_with_different_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="begin with different weights"):
        launch(partial(start_apart, tmp_path), 2)


def die_in_one(folder: Path, rank: Rank) -> None:
    if rank.index == 1:
        raise ValueError("something of its own")
    regress(folder, rank)


def test_a_process_that_dies_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TrainingError, match=r"process 1 of 2 ended with 1; what it said stands above"):
        launch(partial(die_in_one, tmp_path), 2)
    assert "something of its own" in capfd.readouterr().err


def test_a_place_is_read_from_what_a_launcher_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*GIVEN, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "5")  # some schedulers set it without a meeting point
    assert given_place() is None
    for name, value in {"WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    place = given_place()
    assert place == Rank(5, 8, local=1) and not place.first


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SCRIPT = """
import sys, time
from functools import partial
from pathlib import Path
from scaledreamer.training.parallel import given_place, launch
from tests.training.test_scale_out import regress
folder = Path(sys.argv[1])
def prepare():
    assert not folder.exists()
    time.sleep(1)
    folder.mkdir()
    (folder / "prepared").write_text(str(given_place().index))
def work(rank):
    assert (folder / "prepared").read_text() == "0", "others wait for the first"
    regress(folder, rank)
launch(work, 1, prepare)
"""


def test_torchruns_processes_are_the_runs(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    subprocess.run(
        [*TORCHRUN, str(tmp_path / "script.py"), str(tmp_path / "given")], check=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": ".:tests"}, timeout=120,
    )  # fmt: skip
    launch(partial(regress, tmp_path / "own"), 2)
    assert equal(load_file(tmp_path / "given" / CHECKPOINT), load_file(tmp_path / "own" / CHECKPOINT))


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    sd = tiny.write_sd(tmp_path_factory.mktemp("priors") / "sd")
    return {"prior": {"kind": "stable-diffusion", "path": str(sd)}, "loop.steps": 60, "loop.save_every": 20}


@pytest.mark.slow
def test_the_command_under_torchrun_ends_at_a_signal_and_resumes_on_one_process(
    prior: dict[str, Any], tmp_path: Path
) -> None:
    module = ["-m", "scaledreamer.training.cli"]
    store = {"distill.embeddings": str(tmp_path / "store")}
    told = arguments("triplane-transformer", "asd", prior | store, tmp_path / "run")
    with subprocess.Popen([*TORCHRUN, *module, *told], stderr=subprocess.PIPE, text=True) as run:
        until = time.monotonic() + 300
        while not (tmp_path / "run" / CHECKPOINT).exists() and time.monotonic() < until:
            assert run.poll() is None, run.stderr and run.stderr.read()
            time.sleep(0.02)
        run.send_signal(signal.SIGTERM)
        _, errors = run.communicate()
    assert "scaledreamer-train --resume" in errors and run.returncode != 0
    header = checkpoints.read(tmp_path / "run" / CHECKPOINT)[0]
    assert header["batches"] == {"processes": 2, "each": 1} and header["counters"]["step"] < 60
    assert not (tmp_path / "run" / "generator.safetensors").exists()

    one = [sys.executable, *module, "--resume", str(tmp_path / "run"), "--set", "loop.processes=1"]
    again = subprocess.run(one, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert (
        "2 batches a step, 2 processes with 1 each, are now 2 batches a step, 1 processes with 2 each" in again.stderr
    )
    starts = json.loads((tmp_path / "run" / RECORD).read_text())["starts"]
    assert [start["processes"] for start in starts] == [2, 1]
    own = subprocess.run(
        [sys.executable, *module, *told[:-1], str(tmp_path / "whole"), "--set", "loop.processes=2"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert own.returncode == 0, own.stderr
    assert close(*(load_file(tmp_path / name / "generator.safetensors") for name in ("run", "whole")))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_command_ends_at_a_signal_with_the_code_that_says_resume_me(
    prior: dict[str, Any], processes: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "scaledreamer.training.cli"]
    options = prior | {"loop.processes": processes}
    told = arguments("triplane-transformer", "asd", options, tmp_path / "run")
    with subprocess.Popen([*command, *told], stderr=subprocess.PIPE, text=True) as run:
        until = time.monotonic() + 300
        while not (tmp_path / "run" / CHECKPOINT).exists() and time.monotonic() < until:
            assert run.poll() is None, run.stderr and run.stderr.read()
            time.sleep(0.02)
        run.send_signal(signal.SIGTERM)
        _, errors = run.communicate()
    assert run.returncode == RESUME_ME, errors
    assert "go on with: scaledreamer-train --resume" in errors and "Traceback" not in errors
    whole = [*command, *told[:-1], str(tmp_path / "whole")]
    for rest in ([*command, "--resume", str(tmp_path / "run")], whole):
        done = subprocess.run(rest, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert equal(*(load_file(tmp_path / name / "generator.safetensors") for name in ("run", "whole")))
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_a_folder_killed_before_its_first_checkpoint_begins_again(prior: dict[str, Any], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scaledreamer.training.cli"]
    told = arguments("triplane-transformer", "asd", prior | {"loop.steps": 4}, tmp_path / "run")
    assert subprocess.run([*command, *told]).returncode == 0
    made = load_file(tmp_path / "run" / "generator.safetensors")
    rows = read_rows(tmp_path / "run" / METRICS)
    for path in (tmp_path / "run").glob("*.safetensors"):
        path.unlink()
    done = subprocess.run([*command, "--resume", str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert equal(made, load_file(tmp_path / "run" / "generator.safetensors"))
    again = read_rows(tmp_path / "run" / METRICS)
    assert [row["step"] for row in again] == [row["step"] for row in rows], "every step is logged once"
