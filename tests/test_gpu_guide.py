"""docs/gpu.md on a CPU: every command of the guide, word for word, with tiny files under the released names."""

import shlex
from functools import partial
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from scaledreamer.model import official
from scaledreamer.model.generators import build_generator
from scaledreamer.server import main as server
from scaledreamer.training.cli import train
from scaledreamer.training.priors import mvdream_files
from tests.commands import scaledreamer
from tests.test_official_models import CONFIGS
from tests.training.priors import tiny
from tests.training.priors.test_mvdream_parity import HEAD_CHANNELS, recorded
from tests.training.test_matrix import arguments

GUIDE = Path(__file__).parents[1] / "docs" / "gpu.md"
command = typer.Typer()
command.command()(train)


def commands(program: str) -> list[list[str]]:
    """The guide's calls of a program, without its name."""
    found, inside = [], False
    for line in GUIDE.read_text().splitlines():
        if line.startswith("```"):
            inside = line == "```sh"
        elif inside and (words := shlex.split(line, comments=True)) and words[0].removeprefix(".venv/bin/") == program:
            found.append(words[1:])
    return found


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what section 2 lists, tiny."""
    folder = tmp_path_factory.mktemp("downloads")
    torch.manual_seed(0)
    tiny.write_sd(folder / "stable-diffusion-2-1-base")
    state = official.to_state_dict(build_generator(CONFIGS["DL17k"]))
    torch.save({"state_dict": state, "epoch": 0, "global_step": 1}, folder / "DL17k_triplane_transformer.pth")
    torch.save(recorded(), folder / "sd-v2.1-base-4view.pt")
    return folder


def test_section_3_converts_generates_and_serves(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(downloads)
    monkeypatch.setattr(
        mvdream_files, "convert_mvdream", partial(mvdream_files.convert_mvdream, head_channels=HEAD_CHANNELS)
    )
    monkeypatch.setattr(server, "serve", lambda settings: 0 if Path(settings.text_encoder).is_dir() else 1)
    ran = []
    for words in commands("scaledreamer"):
        words = ["cpu" if word == "cuda" else word for word in words]
        done = scaledreamer(*words)
        assert done.code == 0, (words, done.err)
        ran.append(words[0])
    assert ran == ["doctor", "convert", "generate", "serve", "convert"]
    assert (downloads / "chair.glb").read_bytes()[:4] == b"glTF" and (downloads / "mvdream" / "unet").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [words for words in commands("scaledreamer-train") if "--resume" not in words], ids=" ".join
)
def test_section_4_trains_as_a_dry_run(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(command, [*words, "--dry-run", "--set", "loop.accumulate=1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert '"stand_ins": [' in result.output and not list(tmp_path.iterdir())


def test_section_4_resumes(downloads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prior = {"prior": {"kind": "stable-diffusion", "path": str(downloads / "stable-diffusion-2-1-base")}}
    (words,) = [words for words in commands("scaledreamer-train") if "--resume" in words]
    begun = CliRunner().invoke(command, arguments("hyper-ingp", "asd", prior, Path(words[-1])), catch_exceptions=False)
    assert begun.exit_code == 0, begun.output
    again = CliRunner().invoke(command, [*words, "--set", "loop.steps=3"], catch_exceptions=False)
    assert again.exit_code == 0 and (tmp_path / words[-1] / "generator.safetensors").exists()
