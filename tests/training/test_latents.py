"""Small networks of the real classes: trained through the command line, read by the loaders of the released models."""

import json
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from scaledreamer.errors import ModelFileError
from scaledreamer.model.cameras import turntable
from scaledreamer.training.cli import train
from scaledreamer.training.latents import over_plain
from scaledreamer.training.priors.config import MVDreamConfig, StableDiffusionConfig
from scaledreamer.training.priors.mvdream import load_mvdream
from scaledreamer.training.priors.small import build_text_tower, build_unet, learn_words, token_ids
from scaledreamer.training.priors.small_config import SmallUNetConfig
from scaledreamer.training.priors.stable_diffusion import load_stable_diffusion
from scaledreamer.training.priors.view_prompts import from_sides
from scaledreamer.training.props.grammar import training_prompts
from scaledreamer.training.props.world import FIRST

command = typer.Typer()
command.command()(train)
NETWORK = "network={side: 16, channels: [32, 32], heads: 2, text_width: 16, text_layers: 1}"


def run(*arguments: str) -> None:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder, a single-view and a four-view model, two steps each."""
    folder = tmp_path_factory.mktemp("small")
    short = []
    for setting in (
        f"data.data={folder}/data", "data.sets=1", "data.wordings=1", "data.batch=2", "loop.processes=1",
        "loop.steps=2", "loop.log_every=1", "loop.preview_every=2",
    ):  # fmt: skip
        short += ["--set", setting]
    run("props-autoencoder", *short, "--set", "network.channels=[32, 32]", "--out", f"{folder}/vae")
    latent = ["--set", NETWORK, "--set", f"latent.autoencoder={folder}/vae/model"]
    run("props-sd", *short, *latent, "--out", f"{folder}/sd")
    run("props-mvdream", *short, *latent, "--set", f"latent.start={folder}/sd/model", "--out", f"{folder}/mvdream")
    return folder


def test_the_folders_are_read_as_the_released_ones_are(folders: Path, rng: torch.Generator) -> None:
    sd = load_stable_diffusion(StableDiffusionConfig(path=str(folders / "sd" / "model"), offline=True))
    four = str(folders / "mvdream" / "model")
    mvdream = load_mvdream(MVDreamConfig(path=four, text=four, offline=True))
    assert (sd.prediction, sd.process.steps, sd.autoencoder.pixels) == ("v", 1000, 32)
    x_0 = mvdream.encode(torch.rand(4, 3, 32, 32, generator=rng))
    cond = mvdream.embed(["a red mug"]).repeat(4)
    alone, seen = (mvdream.eps(x_0, torch.full((4,), 500), cond, camera) for camera in (None, turntable(4)))
    assert x_0.shape == (4, 4, 16, 16) and not torch.allclose(alone, seen)
    assert torch.equal(sd.embed(["a red mug"]).tokens, mvdream.embed(["a red mug"]).tokens), "the text tower is kept"


def test_latents_have_unit_variance_and_a_card_says_how_they_were_trained(folders: Path, rng: torch.Generator) -> None:
    model = folders / "sd" / "model"
    sd = load_stable_diffusion(StableDiffusionConfig(path=str(model), offline=True))
    card = json.loads((model / "card.json").read_text())
    assert card["steps"] == 2 and card["config"]["views"] == 1
    assert 0.3 < float(sd.encode(torch.rand(8, 3, 32, 32, generator=rng)).std()) < 3
    assert (folders / "vae" / "preview" / "0000002.png").exists() and (folders / "mvdream" / "preview").is_dir()


def test_a_start_of_other_sizes_is_refused(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="sd/model does not fit"):
        run(
            "props-mvdream", "--set", NETWORK.replace("channels: [32, 32]", "channels: [64, 32]"),
            "--set", f"latent.autoencoder={folders}/vae/model", "--set", f"latent.start={folders}/sd/model",
            "--set", f"data.data={folders}/data", "--set", "data.sets=1", "--set", "loop.processes=1",
            "--out", str(tmp_path / "run"),
        )  # fmt: skip


def test_the_four_view_network_begins_as_the_single_view_one() -> None:
    config = SmallUNetConfig(side=8, channels=(32, 32), heads=2, text_width=16, text_layers=1)
    single, four = build_unet(config, camera=False), build_unet(config, camera=True)
    assert four.load_state_dict(single.state_dict(), strict=False).missing_keys == [
        "class_embedding.linear_1.weight", "class_embedding.linear_1.bias",
        "class_embedding.linear_2.weight", "class_embedding.linear_2.bias",
    ]  # fmt: skip


def test_every_word_of_training_is_one_token_and_any_other_is_spelled() -> None:
    config = SmallUNetConfig()
    said = [text for prompt in training_prompts(FIRST, 3) for text in from_sides(prompt)]
    words = learn_words(said, config.window)
    ids = token_ids(words, ["a small red mushroom, front view", "a zebra", ""], config.window)
    assert ids.shape == (3, config.window)
    assert len(words("a small red mushroom").input_ids) == 4 + 2
    assert words.decode(ids[1][1:8], skip_special_tokens=True).replace(" ", "").startswith("azebra")
    assert max(len(words(text).input_ids) for text in said) <= config.window
    again = learn_words(said, config.window)
    assert again.get_vocab() == words.get_vocab(), "the same prompts, the same words"
    assert build_text_tower(config, len(words)).config.eos_token_id == words.eos_token_id


def test_pictures_stand_on_one_colour_each(rng: torch.Generator) -> None:
    rgba = torch.zeros(64, 4, 2, 2)
    rgba[:, :, 0, 0] = torch.tensor([0.2, 0.4, 0.6, 1.0])
    seen = over_plain(rgba, rng)
    assert torch.equal(seen[:, :, 0, 0], rgba[:, :3, 0, 0])
    assert torch.equal(seen[:, :, 0, 1], seen[:, :, 1, 1])
    grey = (seen[:, :, 1, 1] == 0.5).all(1).float().mean()
    assert 0.1 < float(grey) < 0.45
