"""The encoder that a model file asks for: MiniLM, CLIP from a folder, and nothing that does not fit."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from scaledreamer.errors import ModelFileError
from scaledreamer.model.clip_text import CLIPText
from scaledreamer.model.encoders import load_encoder
from scaledreamer.model.generators import Generator
from scaledreamer.model.generators.conv3d import Conv3D, Conv3DConfig
from scaledreamer.model.generators.prompt_ingp import PromptNGP, PromptNGPConfig
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.library import save_generator
from tests.training.priors import tiny

CLIP = "clip:somewhere/sd"


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SD folder's tokenizer and text encoder, and nothing else of it."""
    folder = tmp_path_factory.mktemp("sd")
    torch.manual_seed(0)
    tiny.write_text(folder)
    return folder


def conv3d(width: int) -> Conv3D:
    return Conv3D(Conv3DConfig(text_width=width, noise_width=4, style_width=6, channels=(4,), voxel_channels=2))


def saved(generator: Generator, folder: Path, name: str) -> Path:
    save_generator(generator, folder / "model.safetensors", {}, name)
    return folder / "model.safetensors"


def test_a_clip_model_reads_prompts_with_the_folder_it_is_given(sd: Path, tmp_path: Path) -> None:
    encoder = load_encoder(saved(conv3d(tiny.WIDTH), tmp_path, CLIP), sd)
    assert isinstance(encoder, CLIPText) and encoder.width == tiny.WIDTH
    embedding = encoder.encode(["a mug", "a hat"])
    assert embedding.tokens.shape == (2, tiny.WINDOW, tiny.WIDTH) and embedding.tokens.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_a_half_precision_folder_is_read_in_float32(sd: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer").symlink_to(sd / "tokenizer")
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "config.json").write_bytes((sd / "text_encoder" / "config.json").read_bytes())
    weights = load_file(sd / "text_encoder" / "model.safetensors")
    halves = {name: weight.half() for name, weight in weights.items()}
    save_file(halves, tmp_path / "text_encoder" / "model.safetensors", {"format": "pt"})
    encoder = load_encoder(saved(conv3d(tiny.WIDTH), tmp_path, CLIP), tmp_path)
    assert encoder.encode(["a mug"]).tokens.dtype == torch.float32


def test_a_model_of_one_prompt_takes_any_width(sd: Path, tmp_path: Path) -> None:
    generator = PromptNGP(PromptNGPConfig(grid=HashGridConfig(levels=1, log2_entries=4)))
    assert isinstance(load_encoder(saved(generator, tmp_path, CLIP), sd), CLIPText)


def test_a_clip_model_without_a_folder_says_what_it_expects_and_how_to_give_it(tmp_path: Path) -> None:
    model = saved(conv3d(tiny.WIDTH), tmp_path, CLIP)
    with pytest.raises(ModelFileError, match=r"'clip:somewhere/sd'.*tokenizer and text_encoder: --text-encoder FOLDER"):
        load_encoder(model, None)


def test_a_minilm_model_takes_no_folder(sd: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=rf"'minilm', which is built in; leave out '{sd}'"):
        load_encoder(saved(conv3d(384), tmp_path, "minilm"), sd)


def test_an_encoder_of_another_width_is_refused_with_both_numbers(sd: Path, tmp_path: Path) -> None:
    complaint = rf"prompts 1024 numbers wide, but '{sd}' makes {tiny.WIDTH}; give 'clip:somewhere/sd'"
    with pytest.raises(ModelFileError, match=complaint):
        load_encoder(saved(conv3d(1024), tmp_path, CLIP), sd)


def test_an_unknown_encoder_is_refused(sd: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"'t5:xxl'; this release knows 'minilm' and 'clip:...'"):
        load_encoder(saved(conv3d(8), tmp_path, "t5:xxl"), sd)


def test_a_folder_that_is_not_there_or_not_whole_is_refused(sd: Path, tmp_path: Path) -> None:
    model = saved(conv3d(tiny.WIDTH), tmp_path, CLIP)
    with pytest.raises(ModelFileError, match=r"has no subfolder 'tokenizer'.*--text-encoder FOLDER"):
        load_encoder(model, tmp_path)
    with pytest.raises(ModelFileError, match=r"cannot read 'tokenizer' of .*nowhere.*--text-encoder FOLDER"):
        load_encoder(model, tmp_path / "nowhere")
    (tmp_path / "tokenizer").symlink_to(sd / "tokenizer")
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "config.json").write_bytes((sd / "text_encoder" / "config.json").read_bytes())
    weights = load_file(sd / "text_encoder" / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "final_layer_norm" not in name}
    save_file(kept, tmp_path / "text_encoder" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelFileError, match=r"leaves 2 weights of CLIPTextModel unset.*final_layer_norm"):
        load_encoder(model, tmp_path)
    (tmp_path / "text_encoder" / "model.safetensors").write_bytes(b"cut short")
    with pytest.raises(ModelFileError, match=r"cannot read 'text_encoder'.*--text-encoder FOLDER"):
        load_encoder(model, tmp_path)


def test_a_tokenizer_without_a_vocabulary_is_refused(sd: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "text_encoder").symlink_to(sd / "text_encoder")
    with pytest.raises(
        ModelFileError, match=r"the tokenizer in .* has 2 words, the text_encoder 78; download it again"
    ):
        load_encoder(saved(conv3d(tiny.WIDTH), tmp_path, CLIP), tmp_path)


class Harmful:
    """What a pickle may do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harmed",)


def test_a_pickled_text_encoder_runs_no_code(sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokenizer").symlink_to(sd / "tokenizer")
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "config.json").write_bytes((sd / "text_encoder" / "config.json").read_bytes())
    torch.save({"final_layer_norm.bias": Harmful()}, tmp_path / "text_encoder" / "pytorch_model.bin")
    with pytest.raises(ModelFileError, match="cannot read 'text_encoder'"):
        load_encoder(saved(conv3d(tiny.WIDTH), tmp_path, CLIP), tmp_path)
    assert not (tmp_path / "harmed").exists()


def test_serving_with_clip_loads_no_diffusion_library(sd: Path, tmp_path: Path) -> None:
    model = saved(conv3d(tiny.WIDTH), tmp_path, CLIP)
    program = (
        "import sys; from scaledreamer import TextTo3D\n"
        f"TextTo3D.load({str(model)!r}, text_encoder={str(sd)!r})('a mug', resolution=16)\n"
        "assert not {'diffusers', 'scaledreamer.training'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
