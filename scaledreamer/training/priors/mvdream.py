"""MVDreamPrior: four views of one object, judged together (arXiv:2308.16512)."""

from pathlib import Path

from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn

from scaledreamer.model.cameras import Camera
from scaledreamer.model.clip_text import CLIPText
from scaledreamer.model.text import TextEncoder
from scaledreamer.training.priors import mvdream_keys as keys
from scaledreamer.training.priors.autoencoder import Autoencoder
from scaledreamer.training.priors.base import Condition, whole_sets
from scaledreamer.training.priors.config import MVDREAM_NEGATIVE, MVDreamConfig
from scaledreamer.training.priors.mvdream_files import WHERE, autoencoder_config, build, read_mvdream, unet_config
from scaledreamer.training.priors.prediction import Prediction
from scaledreamer.training.priors.pretrained import STAND_INS, Source, read_process
from scaledreamer.training.priors.process import Discrete, scaled_linear
from scaledreamer.training.priors.stable_diffusion import StableDiffusionPrior, precision
from scaledreamer.training.priors.unet import CameraUNet, call_unet, join_views


class MVDreamPrior(StableDiffusionPrior):
    """SD's U-Net with self-attention over all views and the camera added to the time.

    Pictures are resized to 256 pixels. One time and one text for the views of a prompt; the camera stays in the
    unconditional branch. Without a camera the network works in its 2D mode: each picture for itself.
    """

    views = 4

    def __init__(
        self,
        unet: CameraUNet,
        autoencoder: Autoencoder,
        encoder: TextEncoder,
        process: Discrete,
        prediction: Prediction = "eps",
        negative_prompt: str = MVDREAM_NEGATIVE,
    ) -> None:
        super().__init__(join_views(unet), autoencoder, encoder, process, prediction, negative_prompt)

    def call(
        self, network: nn.Module, x_t: Float[Tensor, "B C h w"], t: Tensor, cond: Condition, camera: Camera | None
    ) -> Float[Tensor, "B K h w"]:
        views = 1 if camera is None else self.views
        whole_sets(len(x_t), views)
        return call_unet(network, x_t, t, cond.tokens, camera, {"views": views})


def load_mvdream(config: MVDreamConfig, device: str = "cpu") -> MVDreamPrior:
    """From the released .pt or from a diffusers folder; the text encoder from an SD folder, as ScaleDreamer does."""
    dtype, path = precision(device), Path(config.path)
    encoder = CLIPText.load(Source(config.text, config.revision, config.offline, STAND_INS), device)
    process: Discrete
    prediction: Prediction
    if path.suffix in (".pt", ".pth", ".ckpt"):
        weights = read_mvdream(path)
        keys.ignored(weights)  # refuses a name that nobody knows
        official = keys.part(keys.UNET, weights)
        unet = build(CameraUNet, unet_config(official, config.head_channels), keys.unet(official), dtype)
        official = keys.part(keys.AUTOENCODER, weights)
        vae = build(AutoencoderKL, autoencoder_config(official), keys.autoencoder(official), dtype)
        process, prediction = scaled_linear(), "eps"
    else:
        source = Source(config.path, offline=config.offline, remedy=WHERE)
        unet, vae = source.model(CameraUNet, "unet", dtype), source.model(AutoencoderKL, "vae", dtype)
        process, prediction = read_process(source)
    autoencoder = Autoencoder(vae.to(device), unet.config.sample_size, config.encode_chunk)
    return MVDreamPrior(unet.to(device), autoencoder, encoder, process, prediction, config.negative_prompt)
