"""Prompts and the bundled sentence encoder."""

import shutil
from pathlib import Path

import pytest
import torch

from scaledreamer.errors import ModelFileError, PromptError
from scaledreamer.model.text import (
    MINILM_SHA256,
    MINILM_WINDOW,
    MiniLM,
    TextEmbedding,
    blend,
    concatenate,
    jitter,
    minilm_folder,
    verify_sha256,
)
from scaledreamer.prompt import check_prompt


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    return MiniLM()


def test_an_embedding_has_a_vector_a_token_and_one_for_the_prompt(encoder: MiniLM) -> None:
    text = encoder.encode(["a red barrel", "a very small blue wooden treasure chest"])
    assert text.tokens.shape == (2, MINILM_WINDOW, 384) and text.pooled.shape == (2, 384)
    assert text.mask is not None and text.mask.sum(1).tolist() == [5, 9]
    assert torch.allclose(text.pooled.norm(dim=-1), torch.ones(2), atol=1e-5)
    assert float(text.tokens[0, 5:].abs().max()) == 0


def test_a_prompt_does_not_depend_on_its_neighbours(encoder: MiniLM) -> None:
    alone = encoder.encode(["a red barrel"])
    beside = encoder.encode(["a red barrel", "x " * 25])
    assert torch.allclose(alone.tokens[0], beside.tokens[0], atol=1e-5)


def test_synonyms_are_near_and_other_things_far(encoder: MiniLM) -> None:
    barrel, keg, tax = encoder.encode(["a red barrel", "a crimson keg", "a quarterly tax filing"]).pooled
    assert float(barrel @ keg) > 0.4 > float(barrel @ tax)


def test_tokens_beyond_the_window_are_counted(encoder: MiniLM) -> None:
    assert encoder.overflow("a red barrel") == 0
    assert encoder.overflow("red " * 40) == 42 - MINILM_WINDOW


def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    shutil.copytree(minilm_folder(), tmp_path, dirs_exist_ok=True)
    with (tmp_path / "model.safetensors").open("r+b") as weights:
        weights.seek(1_000_000)
        weights.write(b"\x00\x01\x02\x03")
    with pytest.raises(ModelFileError, match=f"expected {MINILM_SHA256}"):
        MiniLM(tmp_path)
    with pytest.raises(ModelFileError, match="no weights"):
        verify_sha256(tmp_path / "nothing", MINILM_SHA256)


def test_blending_ends_at_its_ends_and_concatenating_keeps_rows() -> None:
    a = TextEmbedding(torch.zeros(1, 2, 3), torch.zeros(1, 4), torch.tensor([[True, False]]))
    b = TextEmbedding(torch.ones(1, 2, 3), torch.ones(1, 4), torch.tensor([[True, True]]))
    assert torch.equal(blend(a, b, 0.0).tokens, a.tokens) and torch.equal(blend(a, b, 1.0).pooled, b.pooled)
    assert float(blend(a, b, 0.25).pooled.mean()) == 0.25
    both = concatenate([a, b])
    assert len(both) == 2 and torch.equal(both[1:].tokens, b.tokens)


@pytest.mark.parametrize("prompt", ["", "   ", "x" * 1001, "a\x00b", "\ud800", None, 3, ["a"]])
def test_what_is_no_prompt_is_refused(prompt: object) -> None:
    with pytest.raises(PromptError):
        check_prompt(prompt)


def test_a_prompt_loses_only_its_surrounding_space() -> None:
    assert check_prompt("  a rêd 木 barrel\n") == "a rêd 木 barrel"


def test_jitter_is_noise_of_the_asked_size_whatever_the_padding(rng: torch.Generator) -> None:
    tokens, mask = 3.0 * torch.randn(4, 50, 64, generator=rng), torch.zeros(4, 50, dtype=torch.bool)
    mask[:, :20] = True
    text = TextEmbedding(tokens * mask[..., None], 0.1 * torch.randn(4, 64, generator=rng), mask)
    noisy = jitter(text, 0.5, rng)
    assert float((noisy.tokens - text.tokens).std()) == pytest.approx(1.5, rel=0.05)
    assert float((noisy.pooled - text.pooled).std()) == pytest.approx(0.05, rel=0.2)
    assert torch.equal(jitter(text, 0.0, rng).tokens, text.tokens) and noisy.mask is mask
