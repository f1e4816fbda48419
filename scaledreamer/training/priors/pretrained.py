"""What a diffusers folder says of its noise process, and where the folders of Stable Diffusion are."""

from diffusers import DDPMScheduler

from scaledreamer.errors import ModelFileError
from scaledreamer.model import pretrained
from scaledreamer.model.pretrained import Source
from scaledreamer.training.priors.prediction import Prediction
from scaledreamer.training.priors.process import Discrete

STAND_INS = (
    f"{pretrained.STAND_INS}. A folder works as well: prior.path=FOLDER, with the subfolders unet, vae, text_encoder, "
    "tokenizer, scheduler"
)


def read_process(source: Source) -> tuple[Discrete, Prediction]:
    """The noise process, float32, and what the network predicts, as the scheduler's file says."""
    scheduler = source.read(DDPMScheduler, "scheduler")
    said = scheduler.config.prediction_type
    known: dict[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
    if said not in known:
        raise ModelFileError(f"scheduler in {source.path!r} says prediction_type={said!r}; known are {sorted(known)}")
    return Discrete(scheduler.alphas_cumprod), known[said]


__all__ = ["STAND_INS", "Source", "read_process"]
