"""Variational Score Distillation (ProlificDreamer, arXiv:2305.16213): the render's own score is learned meanwhile."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from scaledreamer.model.cameras import Camera
from scaledreamer.training.distillation.base import (
    Distilled,
    Negative,
    Weight,
    asked_at,
    every_row,
    every_view,
    finish,
    guide,
    predict,
    weight_at,
)
from scaledreamer.training.distillation.lora import adapt, trained
from scaledreamer.training.optimizers import load_moments, moments
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.base import Condition, NetworkPrior
from scaledreamer.training.priors.prediction import target_of, to_eps
from scaledreamer.training.priors.process import rows


class VSD:
    """A low-rank copy of a prior's network that learns to denoise the renders; its guidance scale is 1.

    The copy shares the prior's frozen weights, is told the camera (a network that knows none gets an embedding of it),
    and predicts what the prior predicts. It is trained with AdamW at learning rate `lr`; for `drop_camera` of the view
    sets the camera is zero.
    """

    def __init__(self, prior: NetworkPrior, *, lora_rank: int = 4, lr: float = 1e-4, drop_camera: float = 0.1) -> None:
        self.prior, self.drop_camera = prior, drop_camera
        self.network = adapt(prior.copy_for_renders(), lora_rank)
        self.optimizer = torch.optim.AdamW(trained(self.network).values(), lr=lr)

    def __call__(
        self,
        x_0: Float[Tensor, "B C h w"],
        cond: Condition,
        uncond: Condition,
        camera: Camera,
        *,
        noise: Float[Tensor, "B C h w"],
        t: Tensor,
        guidance: float,
        plain: Condition | None = None,
        weight: Weight = "sds",
        negatives: Sequence[Negative] | None = None,
        grad_clip: float | None = None,
        clamp_x0: float | None = None,
    ) -> Distilled:
        """w(t) (eps_guided(x_t) - eps_renders(x_t, text, camera)) (Eq. 9).

        `plain` is the text of the copy, without view suffix; None: the same as `cond`. Both hold a row a prompt or a
        row a view.
        """
        prior = self.prior
        with torch.no_grad():
            t = every_row(t, len(x_0))
            asked = predict(prior, x_0, noise, asked_at(t, cond, uncond, guidance, negatives), camera)
            guided = guide(prior, asked, guidance, negatives, x_0, noise, t, clamp_x0)
            x_t = prior.process.add_noise(x_0, noise, t)
            own = self.eps(x_t, t, cond if plain is None else plain, camera)
            gradient = rows(weight_at(prior.process, t, weight)) * (guided - own)
        return finish(x_0, gradient, grad_clip)

    def eps(
        self, x_t: Float[Tensor, "B C h w"], t: Tensor, cond: Condition, camera: Camera
    ) -> Float[Tensor, "B C h w"]:
        """The noise that the copy predicts, float32."""
        prior = self.prior
        predicted = prior.call(self.network, x_t, t, spread(cond, len(x_t)), camera)
        return to_eps(prior.prediction, predicted, x_t, t, prior.process)

    def learn(
        self, x_0: Float[Tensor, "B C h w"], cond: Condition, camera: Camera, rng: torch.Generator, rank: Rank
    ) -> float:
        """One step of the copy on these renders (Algorithm 2, line 7); returns its loss.

        The mean squared error to the prior's own kind of target, at a time from the whole range, one a view set. A step
        that is not finite is left out.
        """
        prior, x_0 = self.prior, x_0.detach()
        sets = len(x_0) // prior.views
        noise = torch.randn(x_0.shape, generator=rng).to(x_0)
        t = every_row(prior.process.draw(0, 1, sets, rng).to(x_0.device), len(x_0))
        kept = torch.rand(sets, generator=rng) >= self.drop_camera
        kept = kept.repeat_interleave(prior.views).to(camera.c2w)
        seen = Camera(camera.c2w * kept[:, None, None], camera.fovy)
        x_t = prior.process.add_noise(x_0, noise, t)
        predicted = prior.call(self.network, x_t, t, spread(cond, len(x_0)), seen)
        target = target_of(prior.prediction, x_0, noise, t, prior.process)
        loss = F.mse_loss(predicted[:, : target.shape[1]], target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        shared = loss.detach().clone()
        rank.average_gradients(self.network, [shared])
        gradients = [p.grad for p in trained(self.network).values() if p.grad is not None]
        if shared.isfinite() and all(gradient.isfinite().all() for gradient in gradients):
            self.optimizer.step()
        return float(shared)

    def state(self) -> dict[str, Tensor]:
        """What the next step needs beside the prior: the trained weights and their moments."""
        weights = {f"weights.{name}": parameter.detach() for name, parameter in trained(self.network).items()}
        return weights | {f"moments.{name}": value for name, value in moments(self.optimizer, self.network).items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from what `state` returned."""
        with torch.no_grad():
            for name, parameter in trained(self.network).items():
                parameter.copy_(state[f"weights.{name}"])
        load_moments(
            self.optimizer,
            self.network,
            {name.removeprefix("moments."): value for name, value in state.items() if name.startswith("moments.")},
        )


def spread(cond: Condition, count: int) -> Condition:
    """A row a view."""
    told = every_view(cond, count)
    assert isinstance(told, Condition)
    return told
