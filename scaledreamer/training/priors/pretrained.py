"""Parts of a pretrained model, each from its own subfolder: explicit precision, complete weights, telling errors."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler

from scaledreamer.errors import ModelFileError
from scaledreamer.training.priors.config import SD_BASE
from scaledreamer.training.priors.prediction import Prediction
from scaledreamer.training.priors.process import Discrete

STAND_INS = (
    f"Stability AI's own SD 2.x repositories are gone. Stand-ins: {SD_BASE}, Manojb/stable-diffusion-2-1-base, or the "
    "download of stabilityai/stable-diffusion-2-1-base from ModelScope. A folder works as well: prior.path=FOLDER, "
    "with the subfolders unet, vae, text_encoder, tokenizer, scheduler"
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
        model, info = self._read(kind, part, dtype=dtype, output_loading_info=True)
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

        return self._read(CLIPTokenizer, "tokenizer")

    def process(self) -> tuple[Discrete, Prediction]:
        """The noise process, float32, and what the network predicts, as the scheduler's file says."""
        scheduler = self._read(DDPMScheduler, "scheduler")
        said = scheduler.config.prediction_type
        known: dict[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
        if said not in known:
            raise ModelFileError(f"scheduler in {self.path!r} says prediction_type={said!r}; known are {sorted(known)}")
        return Discrete(scheduler.alphas_cumprod), known[said]

    def _read(self, kind: Any, part: str, **options: Any) -> Any:
        if Path(self.path).is_dir() and not (Path(self.path) / part).is_dir():
            raise ModelFileError(f"the folder {self.path!r} has no subfolder {part!r}. {self.remedy}")
        try:
            with warnings.catch_warnings():  # diffusers 0.42 passes the hub an argument that it no longer knows
                warnings.filterwarnings("ignore", message=".*local_dir_use_symlinks")
                return kind.from_pretrained(
                    self.path, subfolder=part, revision=self.revision, local_files_only=self.offline, **options
                )
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelFileError(f"cannot read {part!r} of {self.path!r} ({reason}). {self.remedy}") from error
