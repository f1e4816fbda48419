"""PropsPrior: the small multi-view diffusion model of the props world, seen through the prior interface."""

from importlib import resources
from pathlib import Path
from typing import Any, cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from scaledreamer.errors import ModelFileError
from scaledreamer.model import checkpoint
from scaledreamer.model.cameras import Camera
from scaledreamer.model.shelf import read_header
from scaledreamer.model.text import MiniLM, TextEmbedding, TextEncoder
from scaledreamer.training.priors.base import Condition, NetworkPrior, whole_sets
from scaledreamer.training.priors.pose import plucker, pose
from scaledreamer.training.priors.process import Cosine
from scaledreamer.training.priors.uvit import MultiViewUViT, UViTConfig


def condition(text: TextEmbedding) -> Condition:
    """A sentence embedding as the network wants it: the unit vector scaled to unit variance."""
    return Condition(text.tokens, text.pooled * text.pooled.shape[-1] ** 0.5, text.mask)


class PropsPrior(NetworkPrior):
    """Four pictures of 32 x 32 with opacity, judged together; predicts v, speaks eps."""

    network: MultiViewUViT

    def __init__(self, network: MultiViewUViT, encoder: TextEncoder | None = None) -> None:
        self.network = network.eval().requires_grad_(False)
        self.process, self.prediction = Cosine(), "v"
        self.views = network.config.views
        self.channels = network.config.channels
        self._encoder = encoder

    @property
    def encoder(self) -> TextEncoder:
        """The text encoder, loaded at its first use."""
        if self._encoder is None:
            self._encoder = MiniLM()
        return self._encoder

    def embed(self, prompts: list[str]) -> Condition:
        return condition(self.encoder.encode(prompts))

    def encode(self, images: Float[Tensor, "B K H W"], rng: torch.Generator | None = None) -> Float[Tensor, "B C h w"]:
        """RGB over mid-grey and opacity, in [0, 1], to [-1, 1]; pictures of another size are resized."""
        pixels = self.network.config.pixels
        if images.shape[-1] != pixels:
            images = F.interpolate(images, (pixels, pixels), mode="bilinear", antialias=True)
        return 2 * images - 1

    def call(
        self, network: nn.Module, x_t: Float[Tensor, "B C h w"], t: Tensor, cond: Condition, camera: Camera | None
    ) -> Float[Tensor, "B C h w"]:
        if camera is None:
            raise ValueError("the props prior needs a camera for every picture")
        whole_sets(len(x_t), self.views)
        if len(cond) == len(x_t):
            cond = cond[:: self.views]
        return predict_v(cast(MultiViewUViT, network), x_t, t, cond, camera)


def predict_v(
    network: MultiViewUViT, x_t: Float[Tensor, "B C h w"], t: Float[Tensor, " B"], cond: Condition, camera: Camera
) -> Float[Tensor, "B C h w"]:
    """The network's v for whole view sets: rows of x_t, t and camera are views, rows of cond are prompts."""
    views, device = network.config.views, x_t.device
    assert cond.pooled is not None and cond.mask is not None
    camera = camera.to(device)
    v: Tensor = network(
        rearrange(x_t, "(B V) C h w -> B V C h w", V=views),
        rearrange(t, "(B V) -> B V", V=views),
        rearrange(pose(camera), "(B V) D -> B V D", V=views),
        rearrange(plucker(camera, network.config.patches), "(B V) h w C -> B V h w C", V=views),
        cond.tokens.to(device),
        cond.mask.to(device),
        cond.pooled.to(device),
    )
    return rearrange(v, "B V C h w -> (B V) C h w")


def save_prior(network: MultiViewUViT, path: Path, card: dict[str, Any]) -> None:
    """Write a prior as one fp16 file with its config and card."""
    header = {"config": network.config.model_dump(mode="json"), "text_encoder": "minilm", "card": card}
    checkpoint.write(path, "props-prior", checkpoint.half(network.state_dict()), header)


def prior_path(name: str) -> Path:
    """The prior that ships, or a file. Raises ModelFileError where there is none."""
    if name != "shipped":
        if not Path(name).is_file():
            raise ModelFileError(
                f"no prior at {name!r}; train it (scaledreamer-train props-prior) or set prior.path=shipped"
            )
        return Path(name)
    return Path(str(resources.files("scaledreamer"))) / "weights" / "props-prior.safetensors"


def load_prior(path: Path, encoder: TextEncoder | None = None) -> PropsPrior:
    """Read what `save_prior` wrote."""
    header = read_header(path, "props-prior")
    network = MultiViewUViT(UViTConfig.model_validate(header["config"]))
    checkpoint.load_weights(network, checkpoint.read_tensors(path), path)
    return PropsPrior(network, encoder)
