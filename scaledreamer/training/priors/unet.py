"""diffusers' U-Net as both Stable Diffusion and MVDream use it: told a camera or not, its views joined or not."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import TimestepEmbedding
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from scaledreamer.model.cameras import Camera
from scaledreamer.training.priors.base import share
from scaledreamer.training.priors.pose import pose

CAMERA_WIDTH = 16


class CameraUNet(UNet2DConditionModel):  # type: ignore[misc]  # diffusers is untyped
    """The stock U-Net; its class embedding is MVDream's camera MLP, and without a camera nothing is added.

    Zeros are another thing than no camera: the MLP has biases.
    """

    def get_class_embed(self, sample: Tensor, class_labels: Tensor | None) -> Tensor | None:
        if class_labels is None or self.class_embedding is None:
            return None
        own = next(self.class_embedding.parameters()).dtype
        embedding: Tensor = self.class_embedding(class_labels.to(own))
        return embedding.to(sample.dtype)


class JointViews:
    """Attention whose self-attention reads the tokens of all views of a prompt (MVDream, arXiv:2308.16512, 3.1).

    Cross-attention stays per view; it takes the same arguments, for diffusers hands them to every processor.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Float[Tensor, "B L D"],
        encoder_hidden_states: Float[Tensor, "B T E"] | None = None,
        attention_mask: None = None,
        temb: None = None,
        views: int = 1,
    ) -> Float[Tensor, "B L D"]:
        if encoder_hidden_states is not None:
            return attend(attn, hidden_states, encoder_hidden_states)
        tokens = rearrange(hidden_states, "(B V) L D -> B (V L) D", V=views)
        return rearrange(attend(attn, tokens, tokens), "B (V L) D -> (B V) L D", V=views)


def attend(attn: Any, tokens: Float[Tensor, "B L D"], told: Float[Tensor, "B T E"]) -> Float[Tensor, "B L D"]:
    """Multi-head attention with the projections of a diffusers layer."""
    q, k, v = (
        rearrange(projection, "B L (H D) -> B H L D", H=attn.heads)
        for projection in (attn.to_q(tokens), attn.to_k(told), attn.to_v(told))
    )
    read = rearrange(F.scaled_dot_product_attention(q, k, v), "B H L D -> B L (H D)")
    out: Tensor = attn.to_out[0](read)
    return out


def join_views(unet: CameraUNet) -> CameraUNet:
    """Install the view-joined attention; diffusers does not save processors, so every load needs this."""
    unet.set_attn_processor(JointViews())
    return unet


def call_unet(
    unet: Any, x_t: Float[Tensor, "B C h w"], t: Tensor, tokens: Float[Tensor, "B L D"], camera: Camera | None,
    attention: dict[str, int] | None = None,
) -> Float[Tensor, "B K h w"]:  # fmt: skip
    """The raw prediction, float32. What enters is cast to the network's precision; times stay integers."""
    dtype, device = unet.conv_in.weight.dtype, x_t.device
    labels = None if camera is None or unet.class_embedding is None else pose(camera).to(device)
    out = unet(
        x_t.to(dtype),
        t.to(device),
        tokens.to(device, dtype),
        class_labels=labels,
        cross_attention_kwargs=attention,
        return_dict=False,
    )[0]
    predicted: Tensor = out.float()
    return predicted


def copy_with_camera(unet: CameraUNet) -> nn.Module:
    """A copy that shares the weights; where it knows no camera, it gets a trained embedding that starts at zero."""
    copy = share(unet)
    if unet.class_embedding is None:
        embedding = TimestepEmbedding(CAMERA_WIDTH, unet.time_embedding.linear_2.out_features).to(
            unet.device, torch.float32
        )
        nn.init.zeros_(embedding.linear_2.weight)
        nn.init.zeros_(embedding.linear_2.bias)
        copy.class_embedding = embedding
    return copy
