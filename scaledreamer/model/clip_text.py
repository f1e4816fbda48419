"""The text encoder of Stable Diffusion and MVDream, from a diffusers folder; transformers alone reads it."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from scaledreamer.errors import ModelFileError
from scaledreamer.model.pretrained import Source
from scaledreamer.model.text import Network, TextEmbedding, TextEncoder

PREFIX = "clip:"


def clip_name(path: str) -> str:
    """What a model file calls the text encoder of this folder or repository."""
    return f"{PREFIX}{path}"


class CLIPNetwork(nn.Module):
    """Token numbers to token vectors and the state at the end; tensors alone, so that it can be exported."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Int64[Tensor, "B L"]) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B D"]]:
        out = self.model(ids)
        return out.last_hidden_state, out.pooler_output


class CLIPText(TextEncoder):
    """77 token vectors and the state at the end of the prompt: [B, 77, 1024] and [B, 1024] for SD 2.1-base.

    Padding is read like the rest (no mask), as the diffusion models were trained; what lies beyond the window is cut
    and the end token kept.
    """

    def __init__(self, tokenizer: Any, model: Any, path: str) -> None:
        self.tokenizer, self.model, self.path = tokenizer, model, path
        self.network: Network = CLIPNetwork(model)
        self.window: int = model.config.max_position_embeddings
        self.width: int = model.config.hidden_size

    @classmethod
    def load(cls, source: Source, device: torch.device | str = "cpu") -> "CLIPText":
        """From the subfolders tokenizer and text_encoder, in float32: embeddings are made once."""
        from transformers import CLIPTextModel

        tokenizer = source.tokenizer()
        model = source.model(CLIPTextModel, "text_encoder", torch.float32).to(device)
        if len(tokenizer) < model.config.vocab_size:  # a folder without a vocabulary gives an empty one
            raise ModelFileError(
                f"the tokenizer in {source.path!r} has {len(tokenizer)} words, the text_encoder "
                f"{model.config.vocab_size}; download it again"
            )
        return cls(tokenizer, model, source.path)

    @property
    def name(self) -> str:
        return clip_name(self.path)

    def read(self, prompts: list[str]) -> tuple[Int64[Tensor, "B L"]]:
        """What the network takes: the prompts' token numbers."""
        ids: Tensor = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=self.window, return_tensors="pt"
        ).input_ids
        return (ids.to(self.model.device),)

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> TextEmbedding:
        return TextEmbedding(*self.network(*self.read(prompts)))

    def overflow(self, prompt: str) -> int:
        return max(0, len(self.tokenizer(prompt).input_ids) - self.window)
