"""Generators as single files."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from scaledreamer.errors import ModelFileError
from scaledreamer.model import checkpoint
from scaledreamer.model.generators.triplane_transformer import (
    SummedPlanesConfig,
    TriplaneTransformer,
    TriplaneTransformerConfig,
)
from scaledreamer.model.library import load_generator, save_generator
from scaledreamer.model.shelf import find_model, read_card
from scaledreamer.model.text import TextEmbedding

SMALL = TriplaneTransformerConfig(
    width=32, text_width=16, layers=1, heads=2, low_res=2, plane_channels=4, upsample=(8,), film=True,
    decoder=SummedPlanesConfig(hidden=8), radius=1.0, sphere_bias=0.5, color="sigmoid",
)  # fmt: skip


def text(scenes: int = 2) -> TextEmbedding:
    rng = torch.Generator().manual_seed(0)
    return TextEmbedding(torch.randn(scenes, 3, 16, generator=rng), torch.randn(scenes, 16, generator=rng))


def small() -> TriplaneTransformer:
    torch.manual_seed(0)
    return TriplaneTransformer(SMALL)


def test_a_saved_generator_comes_back_with_its_config_and_card(tmp_path: Path) -> None:
    generator, path = small(), tmp_path / "model.safetensors"
    save_generator(generator, path, {"corpus": "none", "steps": 0})
    loaded = load_generator(path)
    assert isinstance(loaded, TriplaneTransformer) and loaded.config == SMALL
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    header = read_card(path)
    assert header["card"] == {"corpus": "none", "steps": 0} and header["text_encoder"] == "minilm"
    points = torch.rand(2, 50, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(generator(text()).sdf(points), loaded(text()).sdf(points), atol=5e-3), "fp16 on disk"
    assert path.stat().st_size < 2.2 * sum(p.numel() for p in generator.parameters()) + 20_000


def test_saving_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in range(8):  # safetensors itself shuffles the header from one write to the next
        save_generator(small(), tmp_path / str(name), {"steps": 1, "maker": "Müller"})
    assert len({(tmp_path / str(name)).read_bytes() for name in range(8)}) == 1
    assert read_card(tmp_path / "0")["card"] == {"steps": 1, "maker": "Müller"}


def test_other_files_are_refused_with_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelFileError, match="scaledreamer convert"):
        load_generator(tmp_path / "model.pth")
    with pytest.raises(ModelFileError, match="no model file"):
        load_generator(tmp_path / "nothing.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelFileError, match="format 'unknown'"):
        load_generator(tmp_path / "foreign.safetensors")
    checkpoint.write(tmp_path / "prior.safetensors", "props-prior", {"x": torch.zeros(1)}, {})
    with pytest.raises(ModelFileError, match=r"'props-prior'.*'generator'"):
        load_generator(tmp_path / "prior.safetensors")


def test_a_truncated_or_ill_fitting_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_generator(small(), path, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match="no complete safetensors"):
        load_generator(path)
    header = {"config": SMALL.model_dump(mode="json"), "text_encoder": "minilm", "card": {}}
    weights = small().state_dict()
    weights.pop("norm.weight")
    checkpoint.write(path, "generator", weights, header)
    with pytest.raises(ModelFileError, match=r"missing \['norm.weight'\]"):
        load_generator(path)
    header["config"] = {**header["config"], "colour": "blue"}
    checkpoint.write(path, "generator", small().state_dict(), header)
    with pytest.raises(ModelFileError, match="colour"):
        load_generator(path)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelFileError, match="no model named 'castle'"):
        find_model("castle")


def test_masked_tokens_do_not_reach_the_planes() -> None:
    generator, given = small().eval(), text(1)
    mask = torch.tensor([[True, True, False]])
    other = given.tokens.clone()
    other[:, 2] = 99.0
    with torch.no_grad():
        a = generator(TextEmbedding(given.tokens, given.pooled, mask)).planes
        b = generator(TextEmbedding(other, given.pooled, mask)).planes
    assert torch.equal(a, b)


def test_gradients_reach_every_parameter() -> None:
    generator = small()
    sample = generator(text()).query(torch.rand(2, 20, 3))
    (sample.sdf.sum() + sample.rgb.sum()).backward()
    silent = [name for name, p in generator.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert silent == []
