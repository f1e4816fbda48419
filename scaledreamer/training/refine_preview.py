"""A strip of pictures of a refinement: a row a check, the same four sides each time."""

import math
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from scaledreamer.files import atomic_path
from scaledreamer.model.cameras import turntable
from scaledreamer.model.fields.base import Field
from scaledreamer.model.images import sheet
from scaledreamer.model.rendering import render
from scaledreamer.progress import warn
from scaledreamer.training.refine import Check, RefineConfig, behind

PIXELS = 96
ROWS = 24  # at most; the middle is thinned out then


class Strip:
    """Hears of every check; `path` is a whole picture after each."""

    def __init__(self, config: RefineConfig, path: Path) -> None:
        self.config, self.path = config, path
        self.rows: list[Tensor] = []

    @torch.no_grad()
    def __call__(self, check: Check, field: Field) -> None:
        """Draw the field that was judged below those before it."""
        recipe, at = self.config.distill, self.config.at
        camera = turntable(4, 0.4, recipe.preview_distance, math.radians(recipe.preview_fovy_deg)).to(field.device)
        background = behind(recipe).to(field.device)
        seen = render(field[0], camera, background, PIXELS, recipe.renderer_at(at, at))
        self.rows.append(rearrange(seen.rgb, "V H W C -> V C H W").cpu())
        if len(self.rows) > ROWS:
            self.rows = [self.rows[0], *self.rows[1:-1:2], self.rows[-1]]
        try:
            with atomic_path(self.path) as partial:
                sheet(torch.stack(self.rows), zoom=1).save(partial, format="PNG")
        except OSError as error:
            warn(f"{self.path} was not written ({error}); the refinement goes on")
