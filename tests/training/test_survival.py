"""Runs that survive: kills, signals, damaged checkpoints, full disks; and a folder that says all about its run."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from scaledreamer.errors import ConfigError, Interrupted, ModelFileError, TrainingError
from scaledreamer.training import checkpoints, record
from scaledreamer.training.checkpoints import CHECKPOINT, PREVIOUS
from scaledreamer.training.loop import LoopConfig, Trainer
from scaledreamer.training.metrics import METRICS, Metrics, read_rows
from scaledreamer.training.parallel import Rank, launch
from scaledreamer.training.report import REPORT, page, write_report
from scaledreamer.training.signals import RESUME_ME
from tests.server.test_faults import fill, small_disk
from tests.training.test_loop import Regression, trainer, weights


def same(one: Trainer, other: Trainer) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.unlink()  # the previous checkpoint may be the same file under another name
    path.write_bytes(data)


def flip_counter(path: Path) -> None:
    flip(path, path.read_bytes().index(b'step\\": 30') + len('step\\": '))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut short": cut,
    "a weight": partial(flip, place=-9),
    "a counter": flip_counter,
    "the header": partial(flip, place=8),
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
}


class TestCheckpoints:
    def test_the_newest_and_the_one_before_are_kept(self, tmp_path: Path) -> None:
        trainer(tmp_path).run()
        steps = [checkpoints.read(tmp_path / name)[0]["counters"]["step"] for name in (CHECKPOINT, PREVIOUS)]
        assert steps == [30, 20]
        assert not [path for path in tmp_path.iterdir() if "partial" in path.name]

    @pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
    def test_a_damaged_newest_falls_back_to_the_previous_one(
        self, damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        whole, again = trainer(tmp_path), trainer(tmp_path)
        whole.run()
        damage(tmp_path / CHECKPOINT)
        assert checkpoints.exists(tmp_path)
        again.restore()
        assert again.step == 20
        warning = capsys.readouterr().err
        assert CHECKPOINT in warning and "the previous checkpoint, of step 20" in warning
        assert not (tmp_path / CHECKPOINT).exists(), "the next save must not keep it as the previous one"
        again.run()
        assert same(whole, again)
        assert checkpoints.read(tmp_path / PREVIOUS)[0]["counters"]["step"] == 20

    def test_two_damaged_ones_are_refused(self, tmp_path: Path) -> None:
        trainer(tmp_path).run()
        for name in (CHECKPOINT, PREVIOUS):
            flip(tmp_path / name, -9)
        with pytest.raises(ModelFileError, match="another checksum"):
            trainer(tmp_path).restore()

    def test_a_file_system_without_links_keeps_two_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr("scaledreamer.training.checkpoints.os.link", refuse)
        self.test_the_newest_and_the_one_before_are_kept(tmp_path)

    def test_what_a_killed_save_leaves_goes_with_the_next(self, tmp_path: Path) -> None:
        left = tmp_path / f".{CHECKPOINT}.abc.partial"
        left.write_bytes(b"half")
        trainer(tmp_path).save()
        assert not left.exists()


class TestFullDisk:
    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
    def test_the_run_goes_on_and_the_last_checkpoint_stays(
        self, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run, written = trainer(tmp_path), checkpoints.write

        def full(path: Path, *rest: object) -> None:
            if 10 < run.step < 30:
                raise OSError(code, os.strerror(code), str(path))
            written(path, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(checkpoints, "write", full)
        seen: list[int] = []
        monkeypatch.setattr(
            run, "log", lambda _: seen.append(checkpoints.read_newest_header(tmp_path)["counters"]["step"])
            if run.step > 10 else None,
        )  # fmt: skip
        run.run()
        assert set(seen) == {10}
        warning = capsys.readouterr().err
        assert "no checkpoint of step 20" in warning and "the last one is of step 10 and whole" in warning
        assert checkpoints.read(tmp_path / CHECKPOINT)[0]["counters"]["step"] == 30

    def test_a_real_full_disk_costs_checkpoints_and_lines_not_the_run(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with small_disk(tmp_path / "small", "1m") as disk:
            run = trainer(disk, preview_every=10)
            step_of: dict[str, int] = {}
            with ExitStack() as stack:
                advance = run.advance

                def advance_and_fill() -> dict[str, float]:
                    told = advance()
                    if run.step == 12:
                        fill(disk)
                    if run.step == 28:
                        step_of["full"] = checkpoints.read(disk / CHECKPOINT)[0]["counters"]["step"]
                        (disk / "filler").unlink()
                    return told

                stack.enter_context(pytest.MonkeyPatch.context()).setattr(run, "advance", advance_and_fill)
                run.run()
            assert step_of == {"full": 10}
            assert checkpoints.read(disk / CHECKPOINT)[0]["counters"]["step"] == 30
            text = (disk / METRICS).read_text()
            assert text.endswith("}\n") and len(read_rows(disk / METRICS)) == len(text.splitlines())
        warning = capsys.readouterr().err
        assert "No space left on device" in warning and "no checkpoint of step 20" in warning

    def test_at_the_end_it_is_an_error_that_names_the_remedy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, written = trainer(tmp_path), checkpoints.write

        def full(path: Path, *rest: object) -> None:
            if run.step > 20:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            written(path, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(checkpoints, "write", full)
        with pytest.raises(TrainingError, match=r"No space left.*of step 20 and whole.*Free \d+ MB.*--resume"):
            run.run()
        monkeypatch.undo()
        again = trainer(tmp_path)
        again.restore()
        again.run()
        assert same(run, again)

    def test_a_line_that_does_not_fit_is_left_out_as_a_whole(self, tmp_path: Path) -> None:
        """At the border of the operating system: a file that may not grow beyond what it is."""
        script = (
            "import resource, signal, sys\nfrom pathlib import Path\n"
            "from scaledreamer.training.metrics import Metrics\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "metrics = Metrics(Path(sys.argv[1]))\nmetrics.append({'step': 1, 'loss': 0.5})\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (40, resource.RLIM_INFINITY))\n"
            "metrics.append({'step': 2, 'loss': 0.5})\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
            "metrics.append({'step': 3, 'loss': 0.5})\n"
        )
        done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
        assert "no line of step 2" in done.stderr
        assert (tmp_path / METRICS).read_text() == '{"step": 1, "loss": 0.5}\n{"step": 3, "loss": 0.5}\n'


class Signalled(Regression):
    """Before a step of a process, that process gets a signal."""

    def __init__(self, step: int, number: int, process: int = 0) -> None:
        super().__init__()
        self.when, self.number, self.process = step, number, process

    def loss(self, step: int, rank: Rank) -> tuple[Tensor, dict[str, float]]:
        if (step, rank.index) == (self.when, self.process):
            os.kill(os.getpid(), self.number)
        return super().loss(step, rank)


def signalled(folder: Path, number: int, process: int, rank: Rank) -> None:
    config = LoopConfig(steps=30, ema=0.9, save_every=10, processes=rank.count)
    Trainer(Signalled(17, number, process), config, folder, rank, {"kind": "test"}).run()


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_saves_and_the_resumed_run_is_the_same_to_the_bit(self, number: int, tmp_path: Path) -> None:
        before = signal.getsignal(number)
        whole, again = trainer(tmp_path / "whole"), trainer(tmp_path / "cut")
        whole.run()
        with pytest.raises(Interrupted, match=r"after step 18 of 30.*--resume"):
            signalled(tmp_path / "cut", number, 0, Rank())
        assert signal.getsignal(number) is before
        again.restore()
        assert again.step == 18
        again.run()
        assert same(whole, again)

    def test_a_signal_to_one_process_ends_all_after_the_same_step(self, tmp_path: Path) -> None:
        with pytest.raises(Interrupted, match="after step 18 of 30"):
            launch(partial(signalled, tmp_path, signal.SIGTERM, 1), 2)
        assert checkpoints.read(tmp_path / CHECKPOINT)[0]["counters"]["step"] == 18

    def test_a_signal_in_the_last_step_changes_nothing(self, tmp_path: Path) -> None:
        config = LoopConfig(steps=18)
        Trainer(Signalled(17, signal.SIGTERM), config, tmp_path, Rank(), {"kind": "test"}).run()

    def test_a_second_interrupt_ends_the_process_at_once(self, tmp_path: Path) -> None:
        task = Signalled(0, signal.SIGINT)
        task.model.register_forward_pre_hook(lambda *_: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            Trainer(task, LoopConfig(steps=9), tmp_path, Rank(), {"kind": "test"}).run()

    def test_a_full_disk_at_a_signal_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(path: Path, *_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(checkpoints, "write", full)
        with pytest.raises(TrainingError, match=r"No space left.*there is none"):
            Trainer(
                Signalled(3, signal.SIGTERM), LoopConfig(steps=9), tmp_path, Rank(), {"kind": "test"}
            ).run()  # fmt: skip


KILLED = """
import contextlib, os, sys, time
from pathlib import Path
from scaledreamer.training import checkpoints
from tests.training import test_loop
with contextlib.suppress(ImportError):
    import torch.utils.tensorboard  # once for all lives
folder = Path(sys.argv[1])
print("ready", flush=True)
for _ in sys.stdin:  # a line starts one more life, which is killed from outside
    child = os.fork()
    if child == 0:
        run = test_loop.trainer(folder, steps=600, save_every=7)
        if checkpoints.exists(folder):
            run.restore()
        advance = run.advance
        run.advance = lambda: (time.sleep(0.002), advance())[1]
        run.run()
        os._exit(0)
    print(child, flush=True)
    print("ended", os.waitpid(child, 0)[1], flush=True)
"""


def test_five_sigkills_at_random_change_no_bit(tmp_path: Path) -> None:
    whole, last = (trainer(tmp_path / name, steps=600, save_every=7) for name in ("whole", "killed"))
    whole.run()
    moments, folder = random.Random(0), tmp_path / "killed"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, bufsize=1,
    ) as lives:  # fmt: skip
        assert lives.stdin and lives.stdout and lives.stdout.readline() == "ready\n"

        def live(kill: bool) -> int:
            assert lives.stdin and lives.stdout
            lives.stdin.write("\n")
            child = int(lives.stdout.readline())
            if kill:
                until = time.monotonic() + 60
                while not (folder / CHECKPOINT).exists() and time.monotonic() < until:
                    time.sleep(0.005)
                time.sleep(moments.uniform(0.01, 0.3))
                os.kill(child, signal.SIGKILL)
            return int(lives.stdout.readline().split()[1])

        assert [live(kill=True) for _ in range(5)] == [signal.SIGKILL] * 5
        assert live(kill=False) == 0
        lives.stdin.close()
    last.restore()
    assert last.step == 600 and same(whole, last)
    assert [row["step"] for row in read_rows(folder / METRICS)] == list(range(5, 601, 5))


def bad_in_one(folder: Path, rank: Rank) -> None:
    config = LoopConfig(steps=6, processes=rank.count, save_every=6)
    Trainer(Regression(bad=(2, 4) if rank.index == 1 else ()), config, folder, rank, {"kind": "test"}).run()


def test_a_step_that_is_nan_in_one_process_is_skipped_by_all(tmp_path: Path) -> None:
    launch(partial(bad_in_one, tmp_path), 2)
    header, tensors = checkpoints.read(tmp_path / CHECKPOINT)
    assert header["counters"]["skipped"] == 2
    assert all(bool(value.isfinite().all()) for value in tensors.values())


CONFIG = {"kind": "test", "loop": {"seed": 3, "steps": 30}}


class TestFolder:
    def test_the_record_says_what_ran_on_what(self, tmp_path: Path) -> None:
        record.begin(tmp_path, CONFIG, 8, "scaledreamer-train x", step=0, processes=2)
        record.begin(tmp_path, CONFIG, 8, "scaledreamer-train --resume x", step=10, processes=1)
        told = record.read(tmp_path)
        assert told["config"] == CONFIG and told["seed"] == 3 and told["examples_a_step"] == 8
        first, second = told["starts"]
        assert first["command"] == "scaledreamer-train x" and (second["step"], second["processes"]) == (10, 1)
        assert first["packages"]["torch"] == torch.__version__ and {"scaledreamer", "numpy"} <= first["packages"].keys()
        assert first["python"] == ".".join(map(str, sys.version_info[:3]))
        assert first["git"] is None or len(first["git"].rstrip("+")) == 40

    def test_a_folder_that_takes_no_file_is_refused_before_any_work(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("in the way")
        with pytest.raises(ConfigError, match="choose another --out"):
            record.begin(tmp_path / "run", CONFIG, 8, "", step=0, processes=1)

    def test_the_report_holds_previews_curves_and_cost(self, tmp_path: Path) -> None:
        record.begin(tmp_path, CONFIG, 8, "scaledreamer-train <x>", step=0, processes=2)
        run = trainer(tmp_path, preview_every=10)
        run.report = partial(write_report, tmp_path)
        run.run()
        text = (tmp_path / REPORT).read_text()
        assert text.count("data:image/png;base64,") == 3 and "<figcaption>step 30<" in text
        assert "30 of 30, 0 of them skipped" in text and ">240, 8 a step," in text and "(of all processes" in text
        svg = text[text.index("<svg") : text.index("</svg>")]
        assert all(f">{name}<" in svg for name in ("loss", "grad_norm", "batch", "lr"))
        assert "&lt;x&gt;" in text and "<x>" not in text
        assert "http" not in text.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
            "http://creativecommons.org", ""
        ).replace("https://matplotlib.org", ""), "one file, nothing is fetched"

    def test_the_report_of_a_run_that_has_logged_nothing_is_a_page(self, tmp_path: Path) -> None:
        record.begin(tmp_path, CONFIG, 8, "", step=0, processes=1)
        assert "none logged yet of 30" in page(tmp_path)

    def test_the_report_of_half_a_run_says_what_is_left(self, tmp_path: Path) -> None:
        record.begin(tmp_path, CONFIG, 8, "", step=0, processes=1)
        metrics = Metrics(tmp_path)
        for step in (5, 10):  # with two processes, then with one
            spent = {"wall_s": step * 360.0, "cpu_s": step * 300.0, "core_s": 600.0 * min(step, 5) + 300.0 * (step > 5)}
            metrics.append({"step": step, "loss": 1.0, "skipped": 0, **spent})
        text = page(tmp_path)
        assert "2.00 h at this pace" in text and ">1.00 h<" in text and "0.92 h (of all processes" in text

    def test_tensorboard_shows_every_step_once_after_a_resume(self, tmp_path: Path) -> None:
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        first, second = trainer(tmp_path, preview_every=10), trainer(tmp_path, preview_every=10)
        first.metrics.open_board(0)
        while first.step < 25:
            first.advance()
            if first.step == 10:
                first.save()
            if first.step % 5 == 0:
                first.log({"loss": 1.0})
        first.metrics.close()
        second.restore()
        time.sleep(1.1)  # the files are ordered by their second
        second.run()
        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        assert [event.step for event in events.Scalars("loss")] == [5, 10, 15, 20, 25, 30]
        assert "preview" in events.Tags()["images"]

    def test_without_tensorboard_the_run_goes_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        trainer(tmp_path).run()
        assert not (tmp_path / "tensorboard").exists() and (tmp_path / METRICS).exists()


def test_the_exit_code_says_resume_me() -> None:
    assert RESUME_ME == getattr(os, "EX_TEMPFAIL", 75) == 75
