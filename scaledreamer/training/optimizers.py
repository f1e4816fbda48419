"""Optimisers as config, and Adan."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, assert_never

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from scaledreamer.config import Config
from scaledreamer.errors import ConfigError, ModelFileError

Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamConfig(Config):
    """Adam, or AdamW where weight_decay is not zero."""

    kind: Literal["adam"] = "adam"
    lr: PositiveFloat = 1e-3
    betas: tuple[Beta, Beta] = (0.9, 0.99)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0


class AdanConfig(Config):
    """Adan with the official settings."""

    kind: Literal["adan"] = "adan"
    lr: PositiveFloat = 2e-4
    betas: tuple[Beta, Beta, Beta] = (0.98, 0.92, 0.99)
    eps: PositiveFloat = 1e-15
    weight_decay: NonNegativeFloat = 0.0
    max_grad_norm: NonNegativeFloat = 0.0  # 0: no clipping
    no_prox: bool = False


OptimizerConfig = Annotated[AdamConfig | AdanConfig, Field(discriminator="kind")]


def parameter_groups(module: nn.Module, factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameters by the factor on their learning rate: that of the longest name in `factors` that begins theirs, or 1.

    Raises ConfigError for a name that begins no parameter's.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    used = set()
    for name, parameter in module.named_parameters():
        begins = max((key for key in factors if f"{name}.".startswith(f"{key}.")), key=len, default=None)
        used.add(begins)
        groups.setdefault(1.0 if begins is None else factors[begins], []).append(parameter)
    if unknown := sorted(factors.keys() - used):
        parts = sorted({name.rsplit(".", 1)[0] for name, _ in module.named_parameters()})
        raise ConfigError(f"lr_factors: nothing is named {unknown[0]!r}; choose among {parts[:12]}")
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


def build_optimizer(
    config: AdamConfig | AdanConfig, parameters: Iterable[nn.Parameter] | list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """The optimiser a config names."""
    match config:
        case AdamConfig():
            return torch.optim.AdamW(parameters, config.lr, config.betas, config.eps, config.weight_decay, foreach=True)
        case AdanConfig():
            return Adan(
                parameters,
                config.lr,
                config.betas,
                config.eps,
                config.weight_decay,
                config.max_grad_norm,
                config.no_prox,
            )
        case _:
            assert_never(config)


class Adan(torch.optim.Optimizer):
    """Adaptive Nesterov momentum (arXiv:2208.06677, Algorithm 1), with bias correction as its authors ship it.

    m, v and n average g, the change of g, and (g + beta2 change)^2, each with weight 1 - beta on what is new.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | list[dict[str, Any]],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        max_grad_norm: float = 0.0,
        no_prox: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
            "max_grad_norm": max_grad_norm, "no_prox": no_prox,
        }  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            known = [int(self.state[p]["step"]) for p in group["params"] if p in self.state]
            group["taken"] = max([group.get("taken", 0), *known]) + 1  # of the group, however late a gradient appears
            parameters = [p for p in group["params"] if p.grad is not None]
            clip = self._clip(group)
            for p in parameters:
                self._update(p, p.grad * clip, group)
        return loss

    def _clip(self, group: dict[str, Any]) -> float | Tensor:
        """Factor that bounds the norm over all groups' gradients (with the authors' eps in the quotient)."""
        if group["max_grad_norm"] <= 0:
            return 1.0
        gradients = [p.grad for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        return torch.clamp(group["max_grad_norm"] / (norm + group["eps"]), max=1.0)

    def _update(self, p: nn.Parameter, g: Tensor, group: dict[str, Any]) -> None:
        state, (beta1, beta2, beta3) = self.state[p], group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state.update({name: torch.zeros_like(p) for name in ("mean", "change", "square")})
            state["previous"] = g.clone()
        k = group["taken"]
        state["step"].fill_(k)
        change = g - state["previous"]
        state["mean"].lerp_(g, 1 - beta1)
        state["change"].lerp_(change, 1 - beta2)
        state["square"].mul_(beta3).add_((1 - beta3) * (g + beta2 * change).square())
        state["previous"].copy_(g)
        denominator = (state["square"] / (1 - beta3**k)).sqrt() + group["eps"]
        update = state["mean"] / (1 - beta1**k) + beta2 * state["change"] / (1 - beta2**k)
        decay = group["lr"] * group["weight_decay"]
        if group["no_prox"]:
            p.mul_(1 - decay).sub_(group["lr"] * update / denominator)
        else:
            p.sub_(group["lr"] * update / denominator).div_(1 + decay)


def moments(optimizer: torch.optim.Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """What an optimiser remembers of every parameter of a module, as `<parameter>.<what>`."""
    names = _names(optimizer, module)
    states: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{names[i]}.{what}": torch.as_tensor(value) for i, state in states.items() for what, value in state.items()
    }


def load_moments(optimizer: torch.optim.Optimizer, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Continue from what `moments` returned, however the parameters are grouped; from nothing, the moments start anew.

    Raises ModelFileError for moments of a parameter that the module does not have.
    """
    numbers = {name: number for number, name in enumerate(_names(optimizer, module))}
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        parameter, what = name.rsplit(".", 1)
        if parameter not in numbers:
            raise ModelFileError(f"moments of {parameter!r}, which is not trained here; resume the run as it was begun")
        states.setdefault(numbers[parameter], {})[what] = value
    if states:
        optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def _names(optimizer: torch.optim.Optimizer, module: nn.Module) -> list[str]:
    """The names of an optimiser's parameters in the order of its own numbers."""
    known = {parameter: name for name, parameter in module.named_parameters()}
    return [known[parameter] for group in optimizer.param_groups for parameter in group["params"]]
