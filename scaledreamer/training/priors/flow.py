"""FlowPrior: an SD3-class transformer that moves along straight lines, seen through the same interface."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scaledreamer.model.cameras import Camera
from scaledreamer.training.priors.autoencoder import Autoencoder
from scaledreamer.training.priors.base import Condition, NetworkPrior
from scaledreamer.training.priors.prediction import Prediction
from scaledreamer.training.priors.process import Flow


class FlowPrior(NetworkPrior):
    """Rectified flow of single pictures (SD3, arXiv:2403.03206); the network is told 1000 sigma, predicts eps - x_0.

    `transformer` is diffusers' SD3Transformer2DModel; `text` gives token vectors and the pooled vector a prompt.
    """

    views = 1
    prediction: Prediction = "flow"

    def __init__(
        self,
        transformer: nn.Module,
        autoencoder: Autoencoder,
        text: Callable[[list[str]], Condition],
        resolution_shift: float = 3.0,
    ) -> None:
        self.network = transformer.eval().requires_grad_(False)
        self.autoencoder, self.text, self.process = autoencoder, text, Flow(resolution_shift)

    def embed(self, prompts: list[str]) -> Condition:
        return self.text(prompts)

    def encode(self, images: Float[Tensor, "B K H W"], rng: torch.Generator | None = None) -> Float[Tensor, "B C h w"]:
        return self.autoencoder.encode(images, rng)

    def call(
        self, network: nn.Module, x_t: Float[Tensor, "B C h w"], t: Tensor, cond: Condition, camera: Camera | None
    ) -> Float[Tensor, "B C h w"]:
        assert cond.pooled is not None, "SD3 reads a pooled vector beside the tokens"
        dtype = next(network.parameters()).dtype
        out: Any = network(
            hidden_states=x_t.to(dtype),
            encoder_hidden_states=cond.tokens.to(x_t.device, dtype),
            pooled_projections=cond.pooled.to(x_t.device, dtype),
            timestep=1000 * self.process.sigma(t),
            return_dict=False,
        )
        predicted: Tensor = out[0].float()
        return predicted
