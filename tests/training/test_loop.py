"""The loop: exact resume, skipped steps, checkpoints that appear whole, two processes."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from scaledreamer.errors import ConfigError, ModelFileError, TrainingError
from scaledreamer.model.checkpoint import write
from scaledreamer.training.checkpoints import CHECKPOINT, PREVIOUS, shrink
from scaledreamer.training.loop import LoopConfig, Task, Trainer
from scaledreamer.training.optimizers import AdanConfig
from scaledreamer.training.parallel import Rank, launch


class Regression(Task):
    """A small network learns a fixed linear map; chosen steps are made NaN."""

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        self.bad = bad

    def loss(self, step: int, rank: Rank) -> tuple[Tensor, dict[str, float]]:
        x = torch.randn(16, 4, generator=rank.rng(0, step))
        loss = (self.model(x) - x[:, :2]).square().mean()
        return (loss * torch.nan if step in self.bad else loss), {"batch": float(x.mean())}

    def preview(self, model: nn.Module) -> Image.Image:
        return Image.new("RGB", (4, 4))


def trainer(folder: Path, steps: int = 30, bad: tuple[int, ...] = (), **options: object) -> Trainer:
    config = LoopConfig.model_validate({"steps": steps, "ema": 0.9, "save_every": 10, "log_every": 5, **options})
    return Trainer(Regression(bad), config, folder, Rank(), {"kind": "test"})


def weights(run: Trainer) -> list[Tensor]:
    return [*run.model.state_dict().values(), *run.ema.state_dict().values()]


@pytest.mark.parametrize("optimizer", [{"kind": "adam"}, {"kind": "adan", "lr": 1e-2}])
def test_a_resumed_run_is_bit_identical(tmp_path: Path, optimizer: dict[str, object]) -> None:
    whole = trainer(tmp_path / "whole", optimizer=optimizer)
    whole.run()
    first = trainer(tmp_path / "cut", optimizer=optimizer)
    for _ in range(17):
        first.advance()
        if first.step == 10:
            first.save()
    second = trainer(tmp_path / "cut", optimizer=optimizer)
    second.restore()
    assert second.step == 10
    second.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


def test_metrics_after_a_resume_hold_every_step_once(tmp_path: Path) -> None:
    first = trainer(tmp_path, steps=30)
    while first.step < 25:
        first.advance()
        if first.step == 10:
            first.save()
        if first.step % 5 == 0:
            first.log({})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2')  # what a kill leaves behind
    second = trainer(tmp_path, steps=30)
    second.restore()
    second.run()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [5, 10, 15, 20, 25, 30]


def test_a_nan_batch_is_skipped_and_counted(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=6, bad=(2, 4), ema=0.0)
    run.run()
    assert run.skipped == 2
    assert all(bool(weight.isfinite().all()) for weight in weights(run))
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])["skipped"] == 2


def test_many_nan_batches_in_a_row_end_the_run_with_the_last_good_weights_saved(tmp_path: Path) -> None:
    run = trainer(tmp_path, steps=40, bad=tuple(range(12, 40)), max_bad_steps=5)
    with pytest.raises(TrainingError, match=r"5 steps in a row were not finite.*the weights of step 17") as told:
        run.run()
    assert "loop.optimizer.lr" in str(told.value)
    good = trainer(tmp_path / "good", steps=40)
    while good.step < 12:
        good.advance()
    again = trainer(tmp_path, steps=40, bad=(17, 18))
    again.restore()
    assert again.step == 17 and all(torch.equal(a, b) for a, b in zip(weights(again), weights(good), strict=True))
    again.run()
    assert again.skipped == 7


def test_steps_that_nothing_learns_from_are_skipped_and_end_the_run(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_bad_steps=3)
    before = [weight.clone() for weight in weights(run)]
    run.task.loss = lambda step, rank: (torch.tensor(1.0), {})  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="3 steps in a row were without a gradient"):
        run.run()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(run), strict=True))


def test_the_average_follows_the_weights_as_the_formula_says(tmp_path: Path) -> None:
    run = trainer(tmp_path, ema=0.2)
    expected = [parameter.detach().clone() for parameter in run.model.parameters()]
    for step in range(3):
        run.advance()
        decay = min(0.2, (1 + step) / (10 + step))
        expected = [decay * e + (1 - decay) * p.detach() for e, p in zip(expected, run.model.parameters(), strict=True)]
    assert all(torch.allclose(a, b) for a, b in zip(expected, run.ema.parameters(), strict=True))
    assert not torch.equal(expected[0], next(run.model.parameters()))


@pytest.mark.parametrize("optimizer", [{"kind": "adam"}, {"kind": "adan"}])
def test_moments_stay_with_their_parameters_when_the_factors_change(
    tmp_path: Path, optimizer: dict[str, object]
) -> None:
    run = trainer(tmp_path, optimizer=optimizer, lr_factors={"0": 0.5})
    for _ in range(3):
        run.advance()
    run.save()
    again = trainer(tmp_path, optimizer=optimizer, lr_factors={"2": 0.5, "0.bias": 0.1})
    again.restore()
    before, after = (dict(each.model.named_parameters()) for each in (run, again))
    for name in before:
        old, new = run.optimizer.state[before[name]], again.optimizer.state[after[name]]
        assert old.keys() == new.keys()
        assert all(torch.equal(torch.as_tensor(old[key]), torch.as_tensor(new[key])) for key in old), name


def test_another_optimiser_starts_its_moments_anew_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def begun(kind: str) -> Trainer:
        run = trainer(tmp_path, optimizer={"kind": kind})
        run.resolved = {"kind": "test", "loop": {"optimizer": {"kind": kind}}}
        return run

    first = begun("adam")
    first.advance()
    first.save()
    again = begun("adan")
    again.restore()
    assert "moments are those of 'adam', the optimiser is 'adan' now" in capsys.readouterr().err
    again.advance()
    assert again.step == 2


def test_a_failed_save_leaves_the_last_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(tmp_path)
    run.advance()
    run.save()
    before = (tmp_path / CHECKPOINT).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("scaledreamer.model.checkpoint.save_file", full)
    run.advance()
    with pytest.raises(OSError, match="No space left"):
        run.save()
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, PREVIOUS}, "no partial file stays behind"


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.advance()
    run.save()
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match="no complete safetensors"):
        trainer(tmp_path).restore()


def test_a_shrunken_checkpoint_resumes_with_fresh_moments(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    for _ in range(12):
        run.advance()
    run.save()
    (tmp_path / "small").mkdir()
    shrink(tmp_path, tmp_path / "small" / CHECKPOINT)
    again = trainer(tmp_path / "small")
    again.restore()
    assert again.step == 12
    averaged = run.ema.state_dict()
    for kept in (again.model.state_dict(), again.ema.state_dict()):
        assert all(torch.allclose(averaged[name], kept[name], atol=1e-3) for name in averaged)
    again.advance()


def train_here(folder: Path, steps: int, rank: Rank) -> None:
    config = LoopConfig(steps=steps, processes=rank.count, save_every=5, log_every=5, optimizer=AdanConfig(lr=1e-2))
    Trainer(Regression(), config, folder, rank, {"kind": "test"}).run()


def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    launch(partial(train_here, tmp_path / "two", 5), 2)
    found = load_file(tmp_path / "two" / CHECKPOINT)

    task = Regression()  # the same by hand: both ranks' losses in one process
    config = LoopConfig(steps=5, optimizer=AdanConfig(lr=1e-2))
    run = Trainer(task, config, tmp_path / "one", Rank(), {"kind": "test"})
    for step in range(5):
        run.optimizer.zero_grad()
        losses = [task.loss(step, Rank(index, 2))[0] for index in range(2)]
        (sum(losses) / 2).backward()  # type: ignore[union-attr]
        run.optimizer.param_groups[0]["lr"] = 1e-2
        run.optimizer.step()
    for name, value in task.model.state_dict().items():
        assert torch.allclose(found[f"model.{name}"], value, atol=1e-6), name


class OneEyed(Regression):
    """The second process sees nothing of the last layer, and in odd steps nothing; nobody sees the one behind."""

    def __init__(self) -> None:
        super().__init__()
        self.model.append(nn.Linear(1, 1))

    def loss(self, step: int, rank: Rank) -> tuple[Tensor, dict[str, float]]:
        x = torch.randn(16, 4, generator=rank.rng(0, step))
        if rank.index == 0:
            return (self.model[:3](x) - x[:, :2]).square().mean(), {}
        return (torch.tensor(1.0) if step % 2 else self.model[0](x).square().mean()), {}


def half_blind(folder: Path, rank: Rank) -> None:
    config = LoopConfig(steps=4, processes=rank.count, optimizer=AdanConfig(lr=1e-2))
    Trainer(OneEyed(), config, folder, rank, {"kind": "test"}).run()


def test_a_parameter_without_a_gradient_in_one_process_counts_as_zero_there(tmp_path: Path) -> None:
    launch(partial(half_blind, tmp_path / "two"), 2)
    found = load_file(tmp_path / "two" / CHECKPOINT)
    task = OneEyed()
    run = Trainer(task, LoopConfig(steps=4, accumulate=2, optimizer=AdanConfig(lr=1e-2)), tmp_path / "one", Rank(), {})
    run.run()
    for name, value in task.model.state_dict().items():
        assert torch.allclose(found[f"model.{name}"], value, atol=1e-6), name
    assert torch.equal(found["model.3.weight"], OneEyed().model.state_dict()["3.weight"])


def test_accumulated_batches_are_the_batches_of_more_processes(tmp_path: Path) -> None:
    launch(partial(train_here, tmp_path / "two", 5), 2)
    config = LoopConfig(steps=5, accumulate=2, optimizer=AdanConfig(lr=1e-2))
    run = Trainer(Regression(), config, tmp_path / "one", Rank(), {"kind": "test"})
    run.run()
    found = load_file(tmp_path / "two" / CHECKPOINT)
    for name, value in run.model.state_dict().items():
        assert torch.allclose(found[f"model.{name}"], value, atol=1e-6), name


@pytest.mark.parametrize("optimizer", [{"kind": "adam"}, {"kind": "adan"}])
def test_a_factor_scales_the_rate_of_the_parameters_it_names(tmp_path: Path, optimizer: dict[str, object]) -> None:
    def first_step(factors: dict[str, float]) -> dict[str, Tensor]:
        torch.manual_seed(0)
        run = trainer(tmp_path, optimizer=optimizer, lr_factors=factors)
        before = {name: value.clone() for name, value in run.model.state_dict().items()}
        run.advance()
        return {name: value - before[name] for name, value in run.model.state_dict().items()}

    plain, scaled = first_step({}), first_step({"0": 0.25, "2": 3.0, "2.bias": 0.5})
    for name, factor in {"0.weight": 0.25, "0.bias": 0.25, "2.weight": 3.0, "2.bias": 0.5}.items():
        assert torch.allclose(scaled[name], factor * plain[name], rtol=1e-3, atol=1e-7), name


def test_a_factor_for_nothing_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing is named 'backgroud'.*'0'"):
        trainer(tmp_path, lr_factors={"backgroud": 0.5})


def test_factors_survive_a_resume_to_the_bit(tmp_path: Path) -> None:
    options: dict[str, object] = {"lr_factors": {"2": 3.0}, "accumulate": 3}
    whole = trainer(tmp_path / "whole", **options)  # type: ignore[arg-type]
    whole.run()
    first = trainer(tmp_path / "cut", **options)  # type: ignore[arg-type]
    while first.step < 10:
        first.advance()
    first.save()
    second = trainer(tmp_path / "cut", **options)  # type: ignore[arg-type]
    second.restore()
    second.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


def test_a_run_begins_with_a_model_files_weights_and_keeps_its_own_where_it_has_none(
    tmp_path: Path,
) -> None:
    known = {"0.weight": torch.full((8, 4), 0.25)}
    write(tmp_path / "model.safetensors", "toy", known, {})
    run, fresh = trainer(tmp_path / "run"), Regression().model
    run.begin_from(tmp_path / "model.safetensors", "toy")
    for model in (run.model, run.ema):
        assert torch.equal(model.state_dict()["0.weight"], known["0.weight"])
        assert torch.equal(model.state_dict()["2.weight"], fresh.state_dict()["2.weight"])
    write(tmp_path / "other.safetensors", "toy", {"elsewhere": torch.zeros(2)}, {})
    with pytest.raises(ModelFileError, match="elsewhere"):
        run.begin_from(tmp_path / "other.safetensors", "toy")
    with pytest.raises(ModelFileError, match="toy"):
        run.begin_from(tmp_path / "model.safetensors", "generator")
