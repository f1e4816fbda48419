"""VolSDF's ways to save time and memory against the plain way: the same loss, the same gradient."""

import pytest
import torch
from torch import Tensor

from scaledreamer.model.cameras import turntable
from scaledreamer.model.fields.decoders import SummedPlanes
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.rendering import VolSDFConfig, render
from scaledreamer.training.regularizers import eikonal

PLAIN = VolSDFConfig(near=1.5, far=4.5, proposals=16, fine=8)
VIEWS = 2


def loss_and_gradient(config: VolSDFConfig, seed: int, only_slopes: bool = False) -> tuple[Tensor, Tensor]:
    """Of a picture and the eikonal mean, at 6 x 6 pixels; the gradient is that of two scenes' planes."""
    torch.manual_seed(0)
    decoder = SummedPlanes(4, 8, sphere_bias=0.6, ball=1.0, color="sigmoid")
    torch.nn.init.normal_(decoder.out.weight, std=0.3)
    planes = torch.randn(2, 3, 4, 6, 6).requires_grad_()
    rng = torch.Generator().manual_seed(seed)
    seen = render(TriplaneField(planes, decoder, 1.0), turntable(2 * VIEWS, 0.3), None, 6, config, rng)
    slopes = eikonal(seen.samples.sdf_gradient)
    loss = slopes if only_slopes else seen.rgb.square().mean() + seen.depth.mean() + 0.1 * slopes
    return loss.detach(), torch.autograd.grad(loss, planes)[0]


@pytest.mark.parametrize("rays", [7, 36, 1000])
def test_what_is_computed_again_is_what_was_kept(rays: int) -> None:
    (kept, gradient), (again, same) = (
        loss_and_gradient(PLAIN.model_copy(update={"recompute": count}), seed=3) for count in (0, rays)
    )
    assert torch.allclose(kept, again, rtol=1e-5)
    assert float((gradient - same).norm() / gradient.norm()) < 1e-5


def test_a_share_of_the_slopes_has_the_whole_mean_and_gradient_on_average() -> None:
    few = PLAIN.model_copy(update={"slopes": 0.125, "jitter": False})
    whole, gradient = loss_and_gradient(PLAIN.model_copy(update={"jitter": False}), seed=0, only_slopes=True)
    draws = [loss_and_gradient(few, seed, only_slopes=True) for seed in range(48)]
    errors = torch.stack([drawn - gradient for _, drawn in draws]).flatten(1)
    one = float(errors.norm(dim=1).square().mean().sqrt() / gradient.norm())
    mean = float(errors.mean(0).norm() / gradient.norm())
    assert one > 0.05, "one draw alone is not the whole"
    assert mean < 1.6 * one / 48**0.5, "and the mean of many has no bias: it falls like one over the root"
    values = torch.stack([value for value, _ in draws])
    assert abs(float(values.mean() - whole)) < 3 * float(values.std()) / 48**0.5


def test_a_share_of_the_slopes_leaves_the_picture_as_it_is() -> None:
    torch.manual_seed(0)
    field = TriplaneField(torch.randn(1, 3, 4, 6, 6), SummedPlanes(4, 8, 0.6, 1.0, "sigmoid"), 1.0)
    pictures = [
        render(
            field, turntable(2), None, 6, PLAIN.model_copy(update={"slopes": share}), torch.Generator().manual_seed(1)
        )
        for share in (1.0, 0.25)
    ]
    for name in ("rgb", "opacity", "depth"):
        assert torch.equal(getattr(pictures[0], name), getattr(pictures[1], name)), name
    assert pictures[1].samples.sdf_gradient.shape[1] == round(0.25 * pictures[0].samples.sdf_gradient.shape[1])
