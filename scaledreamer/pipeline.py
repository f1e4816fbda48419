"""TextTo3D: a prompt becomes a mesh."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from scaledreamer.errors import ModelFileError
from scaledreamer.export.cleanup import keep_large_parts
from scaledreamer.export.isosurface import Mode, extract_mesh
from scaledreamer.export.mesh import Mesh
from scaledreamer.model.cameras import turntable
from scaledreamer.model.fields.base import Field
from scaledreamer.model.generators import Generator
from scaledreamer.model.library import find_model, load_generator, read_card
from scaledreamer.model.rendering import LatticeConfig, PlainBackground, render
from scaledreamer.model.text import MiniLM, TextEncoder, blend
from scaledreamer.prompt import check_prompt


class TextTo3D:
    """A generator and its text encoder. Fields are made once; meshes are read from them."""

    def __init__(
        self, generator: Generator, encoder: TextEncoder, model_id: str = "custom", card: dict[str, Any] | None = None,
        device: str = "cpu",
    ) -> None:  # fmt: skip
        self.generator, self.encoder = generator.to(device).eval(), encoder
        self.model_id, self.card, self.device = model_id, card or {}, device

    @classmethod
    def load(cls, model: str | Path | None = None, text_encoder: str | Path | None = None, device: str = "cpu") -> Self:
        """The default model, a shipped one by name, or a file; everything offline.

        `text_encoder` is for models that expect another encoder than the bundled MiniLM.
        """
        path = find_model(model)
        header = read_card(path)
        if header["text_encoder"] != "minilm" or text_encoder is not None:
            raise ModelFileError(
                f"{path} expects the text encoder {header['text_encoder']!r}; this release reads prompts with 'minilm'"
            )
        return cls(load_generator(path), MiniLM(device=device), path.stem, header["card"], device)

    def warnings(self, prompt: str) -> list[str]:
        """What a user should know before the prompt is used."""
        beyond = self.encoder.overflow(check_prompt(prompt))
        return [f"the last {beyond} tokens of the prompt lie beyond the text encoder's window"] if beyond else []

    @torch.no_grad()
    def fields(self, prompts: list[str]) -> Field:
        """One field with a scene a prompt."""
        text = self.encoder.encode([check_prompt(prompt) for prompt in prompts])
        field: Field = self.generator(text.to(self.device))
        return field

    @torch.no_grad()
    def blend(self, a: str, b: str, weight: float) -> Field:
        """The field of (1 - weight) a + weight b, mixed as embeddings."""
        texts = self.encoder.encode([check_prompt(a), check_prompt(b)])
        field: Field = self.generator(blend(texts[:1], texts[1:], weight).to(self.device))
        return field

    def __call__(self, prompt: str, resolution: int = 128, mode: Mode = "fast") -> Mesh:
        """The mesh of a prompt. Raises PromptError, EmptySurfaceError."""
        return self.mesh(self.fields([prompt]), resolution, mode)

    def mesh(self, field: Field, resolution: int = 128, mode: Mode = "fast") -> Mesh:
        """The mesh of scene 0 of a field, without floating crumbs."""
        return keep_large_parts(extract_mesh(field, resolution, mode))

    @torch.no_grad()
    def picture(self, field: Field, pixels: int = 384) -> Image.Image:
        """Scene 0 of a field, shaded, from its front right, on a transparent ground."""
        camera = turntable(16, elevation=0.4)[torch.tensor([1])]
        look = LatticeConfig(nodes=96, samples=96, sharpness=120.0)
        seen = render(field[0], camera, PlainBackground((0.0, 0.0, 0.0)), pixels, look)
        rgb = seen.foreground / seen.opacity.clamp(min=1e-6)
        rgba = torch.cat([rgb, seen.opacity], dim=-1)[0].clamp(0, 1)
        return Image.fromarray((rgba.cpu().numpy() * 255).round().astype(np.uint8), "RGBA")
