"""Low-rank adaptation: a copy of a frozen network that learns a little beside it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LowRank(nn.Module):
    """A frozen linear layer and a step of low rank that is trained: W x + B A x (LoRA, arXiv:2106.09685, Eq. 3).

    B starts at zero, so the layer starts as it was. A and B are float32 whatever the frozen layer is.
    """

    def __init__(self, frozen: nn.Linear, rank: int) -> None:
        super().__init__()
        device = frozen.weight.device
        self.frozen = frozen
        self.down = nn.Linear(frozen.in_features, rank, bias=False, device=device, dtype=torch.float32)
        self.up = nn.Linear(rank, frozen.out_features, bias=False, device=device, dtype=torch.float32)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B E"]:
        step: Tensor = self.up(self.down(x.to(self.down.weight.dtype)))
        out: Tensor = self.frozen(x)
        return out + step.to(out.dtype)


def adapt(network: nn.Module, rank: int) -> nn.Module:
    """Give every frozen linear layer of `network` a trained step of low rank, in place; other weights stay frozen."""
    frozen = [
        (parent, name, layer)
        for parent in network.modules()
        for name, layer in parent.named_children()
        if type(layer) is nn.Linear and not layer.weight.requires_grad
    ]
    for parent, name, layer in frozen:
        setattr(parent, name, LowRank(layer, rank))
    return network


def trained(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
