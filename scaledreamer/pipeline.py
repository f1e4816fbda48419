"""TextTo3D: a prompt becomes a mesh."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image

from scaledreamer.errors import ConfigError
from scaledreamer.export.cleanup import CRUMBS, keep_large_parts
from scaledreamer.export.finish import Asset, Stage, finish_field
from scaledreamer.export.isosurface import Mode, extract_mesh, with_field_normals
from scaledreamer.export.mesh import Mesh
from scaledreamer.export.presets import LARGEST, AssetSettings
from scaledreamer.model.accelerated import accelerate_pipeline
from scaledreamer.model.cameras import turntable
from scaledreamer.model.compile import Acceleration, Accelerator
from scaledreamer.model.encoders import load_encoder
from scaledreamer.model.familiarity import Familiarity, Vocabulary
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.copies import averaged
from scaledreamer.model.generators import Generator
from scaledreamer.model.library import load_generator
from scaledreamer.model.rendering import LatticeConfig, PlainBackground, render
from scaledreamer.model.shelf import find_model, read_card
from scaledreamer.model.text import TextEmbedding, TextEncoder
from scaledreamer.prompt import check_prompt, said_otherwise


class TextTo3D:
    """A generator and its text encoder. Fields are made once; meshes are read from them."""

    def __init__(
        self, generator: Generator, encoder: TextEncoder, model_id: str = "custom", card: dict[str, Any] | None = None,
        device: str = "cpu", acceleration: Sequence[Acceleration] = (),
    ) -> None:  # fmt: skip
        self.generator, self.encoder = generator.to(device).eval(), encoder
        self.model_id, self.card, self.device = model_id, card or {}, device
        vocabulary = self.card.get("vocabulary")
        self.familiarity = Familiarity(Vocabulary.model_validate(vocabulary), encoder) if vocabulary else None
        self.acceleration = acceleration  # what its parts run on by now, and why where they had to fall back

    @classmethod
    def load(
        cls, model: str | Path | None = None, text_encoder: str | Path | None = None, device: str = "cpu",
        accelerator: Accelerator = "eager",
    ) -> Self:  # fmt: skip
        """The default model, a shipped one by name, or a file; everything offline.

        `text_encoder` is for models that read prompts with CLIP (converted official ones, for example): a Stable
        Diffusion folder, of which the subfolders tokenizer and text_encoder are used. An `accelerator` that cannot be
        used gives eager back with one warning; `acceleration` says why.
        """
        path = find_model(model)
        encoder = load_encoder(path, text_encoder, device)
        loaded = load_generator(path).to(device)
        generator, acceleration = accelerate_pipeline(encoder, loaded, accelerator, device)
        return cls(generator, encoder, path.stem, read_card(path)["card"], device, acceleration)

    def warnings(self, prompt: str) -> list[str]:
        """What a user should know before the prompt is used."""
        said = []
        if beyond := self.encoder.overflow(check_prompt(prompt)):
            said.append(f"the last {beyond} tokens of the prompt lie beyond the text encoder's window")
        if self.familiarity is None:
            return said
        found = self.familiarity.of(prompt)
        if not found.known:
            said.append(
                f"the model {self.model_id} may not know what {prompt!r} asks for (confidence {found.confidence:.2f}); "
                f"the nearest that it knows is {found.nearest!r}"
            )
        elif found.unheard:
            said.append(
                f"the model {self.model_id} knows {found.nearest!r} but not what else {prompt!r} names (confidence "
                f"{found.confidence:.2f}); it makes one thing and may leave out {', '.join(map(repr, found.unheard))}"
            )
        return said

    def fields(self, prompts: list[str], seed: int | None = None) -> Field:
        """One field with a scene a prompt. A stochastic model draws from `seed` (None: 0); others refuse one."""
        return self.generate(self.encoder.encode([check_prompt(prompt) for prompt in prompts]), seed)

    def in_other_words(self, prompt: str) -> Field:
        """One scene: what the answers to the prompt and to other wordings of it have in common, the mean of what they
        bring. Only of deterministic models; raises ConfigError for others.
        """
        if self.generator.stochastic:
            raise ConfigError(f"cannot average answers of {self.model_id!r}: each is drawn anew")
        prompt = check_prompt(prompt)
        return averaged(self.fields([prompt, *said_otherwise(prompt)]))

    def blend(self, a: str, b: str, weight: float, seed: int | None = None) -> Field:
        """The field between two prompts: a at weight 0, b at 1. Raises ConfigError for a weight beyond.

        What lies between two things may leave a crumb of one of them: a mesh with `parts="largest"` is one thing.
        """
        if not 0 <= weight <= 1:
            raise ConfigError(f"cannot blend with weight {weight}; give one from 0 ({a!r}) to 1 ({b!r})")
        texts = self.encoder.encode([check_prompt(a), check_prompt(b)])
        return self.generate_between(texts[:1], texts[1:], weight, seed)

    @torch.no_grad()
    def generate(self, text: TextEmbedding, seed: int | None = None) -> Field:
        """One field with a scene an embedding."""
        field: Field = self.generator(text.to(self.device), rng=self.rng(seed))
        return field

    @torch.no_grad()
    def generate_between(self, a: TextEmbedding, b: TextEmbedding, weight: float, seed: int | None = None) -> Field:
        """One field between two embeddings."""
        return self.generator.blended(a.to(self.device), b.to(self.device), weight, self.rng(seed))

    def rng(self, seed: int | None) -> torch.Generator | None:
        """What a stochastic model draws from. Raises ConfigError for a seed that another has no use for."""
        if self.generator.stochastic:
            return torch.Generator().manual_seed(seed or 0)
        if seed is not None:
            raise ConfigError(f"cannot use seed {seed}: {self.model_id!r} is deterministic; leave the seed out")
        return None

    def __call__(self, prompt: str, resolution: int = 128, mode: Mode = "fast", seed: int | None = None) -> Mesh:
        """The mesh of a prompt. Raises PromptError, EmptySurfaceError, and ConfigError for a seed without use."""
        return self.mesh(self.fields([prompt], seed), resolution, mode)

    def mesh(
        self, field: Field, resolution: int = 128, mode: Mode = "fast", parts: Literal["large", "largest"] = "large"
    ) -> Mesh:
        """The mesh of scene 0 of a field, without floating crumbs (or its largest part alone), with the field's own
        normals.
        """
        step = field.bound / (resolution - 1)  # half a cell
        kept = keep_large_parts(extract_mesh(field, resolution, mode), CRUMBS if parts == "large" else LARGEST)
        return with_field_normals(field[0], kept, step)

    def asset(self, prompt: str, settings: AssetSettings | None = None, seed: int | None = None) -> Asset:
        """The finished asset of a prompt: cleaned, within its face budget, textured, placed, with levels and a hull."""
        return self.finish(prompt, self.fields([prompt], seed), settings)

    def finish(
        self, prompt: str, field: Field, settings: AssetSettings | None = None, stage: Stage | None = None
    ) -> Asset:
        """The finished asset of scene 0 of a field that is at hand; `stage` is told what begins."""
        settings = settings or AssetSettings()
        return finish_field(field, settings, prompt, self.model_id, stage, self.warnings(prompt))

    @torch.no_grad()
    def picture(self, field: Field, pixels: int = 384) -> Image.Image:
        """Scene 0 of a field, shaded, from its front right, on a transparent ground."""
        camera = turntable(16, elevation=0.4)[torch.tensor([1])]
        look = LatticeConfig(nodes=96, samples=96, sharpness=120.0)
        seen = render(field[0], camera, PlainBackground((0.0, 0.0, 0.0)), pixels, look)
        rgb = seen.foreground / seen.opacity.clamp(min=1e-6)
        rgba = torch.cat([rgb, seen.opacity], dim=-1)[0].clamp(0, 1)
        return Image.fromarray((rgba.cpu().numpy() * 255).round().astype(np.uint8), "RGBA")
