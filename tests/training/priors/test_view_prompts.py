"""View-dependent prompts and Perp-Neg equal the official tables, and the official gradient, for any number of rows."""

import math

import pytest
import torch
from fixtures import error, fixture
from torch import Tensor

from scaledreamer.model.cameras import Camera, orbit
from scaledreamer.training.distillation import asd
from scaledreamer.training.priors.base import Condition
from scaledreamer.training.priors.view_prompts import perp_neg, pick, view_dependent, view_texts
from scaledreamer.training.views import SidesConfig, direction_of
from tests.training.test_asd_parity import StandIn


def camera_of(tensors: dict[str, Tensor]) -> Camera:
    azimuth, elevation = (torch.deg2rad(tensors[f"in/{name}_deg"]) for name in ("azimuth", "elevation"))
    return orbit(elevation, azimuth, torch.full_like(azimuth, 1.5), torch.ones_like(azimuth))


def told(tensors: dict[str, Tensor]) -> tuple[Condition, Condition]:
    """The four texts of every prompt, and nothing (one a direction in the fixtures; one for all in life)."""
    nothing = tensors["in/text.un_vd"][direction_of(camera_of(tensors))]
    return Condition(tensors["in/text.vd"].flatten(0, 1)), Condition(nothing)


def test_directions_and_texts_equal_the_official_table() -> None:
    tensors, _ = fixture("perp_neg_table")
    camera, (texts, _) = camera_of(tensors), told(tensors)
    assert torch.equal(direction_of(camera), tensors["out/direction_index"])
    expected, _ = tensors["out/view_dependent_text_embeddings"].chunk(2)
    assert torch.equal(view_dependent(texts, camera).tokens, expected)


def test_perp_neg_texts_and_weights_equal_the_official_table() -> None:
    tensors, _ = fixture("perp_neg_table")
    camera, (texts, uncond), count = camera_of(tensors), told(tensors), len(tensors["in/azimuth_deg"])
    positive, negatives = perp_neg(texts, uncond, camera, -0.5)
    text, nothing, pairs = tensors["out/perp_neg_text_embeddings"].split([count, count, 2 * count])
    assert error(positive.tokens, text) < 2e-5
    assert torch.equal(uncond.tokens, nothing)
    raw = tensors["out/perp_neg_raw_weights"]
    for column, negative in enumerate(negatives):
        assert error(negative.cond.tokens, pairs[column::2]) < 2e-5
        assert error(negative.weight, 0.5 * raw[:, column]) < 2e-5


@pytest.mark.parametrize(
    ("name", "expected"), [("asd_sd_perpneg", "out/grad"), ("asd_sd_perpneg_batch2", "out/grad_one_sample_at_a_time")]
)
def test_asd_with_perp_neg_equals_the_official_gradient_of_each_sample(name: str, expected: str) -> None:
    tensors, meta = fixture(name)
    config, prior = meta["config"], StandIn(1, 512)
    x_0 = torch.nn.functional.interpolate(tensors["in/rgb"].permute(0, 3, 1, 2), (64, 64), mode="bilinear")
    x_0.requires_grad_()
    texts, uncond = told(tensors)
    positive, negatives = perp_neg(texts, uncond, camera_of(tensors), config["guidance_perp_neg"])
    t = tensors["rec/t"]
    delta = (config["plus_ratio"] * (t - meta["min_step"]).float()).clamp(min=0) * tensors["rec/u_plus"]
    assert torch.equal(t + delta.long(), tensors["rec/t_plus"])
    result = asd(
        prior, x_0, positive, uncond, noise=tensors["rec/noise"], t=t, t_shifted=tensors["rec/t_plus"],
        guidance=config["guidance_scale"], negatives=negatives,
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(result.loss, x_0)
    assert error(len(x_0) * gradient, tensors[expected]) < 2e-5


class Echo(StandIn):
    """Embeds a prompt as its length and remembers what it was asked."""

    def embed(self, prompts: list[str]) -> Condition:
        self.asked = prompts
        return Condition(torch.tensor([[[float(len(prompt))]] for prompt in prompts]))


def test_a_prompt_is_told_from_four_sides() -> None:
    prior = Echo(1, 512)
    view_texts(prior, ["a mug", "a hat"])
    assert prior.asked[:4] == ["a mug, side view", "a mug, front view", "a mug, back view", "a mug, overhead view"]
    assert prior.asked[4] == "a hat, side view" and len(prior.asked) == 8


def test_two_views_of_two_prompts_read_their_own_prompt() -> None:
    texts = Condition(torch.arange(8.0)[:, None, None])
    front_then_back = orbit(torch.zeros(4), torch.tensor([0.0, 3.1, 0.0, 3.1]), torch.ones(4), torch.ones(4))
    assert view_dependent(texts, front_then_back).tokens.flatten().tolist() == [1, 2, 5, 6]
    with pytest.raises(ValueError, match="3 cameras do not share out over 2 prompts"):
        pick(texts, torch.zeros(3, dtype=torch.long))


@pytest.mark.parametrize("distance", [1.0, 1.37, 3.3])
def test_a_camera_on_a_threshold_is_not_beyond_it(distance: float) -> None:
    azimuth = torch.arange(-179.0, 180.0)
    full = torch.full_like(azimuth, distance)

    def sides(elevation: float, config: SidesConfig) -> Tensor:
        e = torch.full_like(azimuth, elevation)
        return direction_of(orbit(torch.deg2rad(e), torch.deg2rad(azimuth), full, full), config)

    for threshold in (30.0, 40.0, 60.0):
        config = SidesConfig(front_deg=threshold, back_deg=threshold)
        expected = torch.zeros(len(azimuth), dtype=torch.long)
        expected[azimuth.abs() < threshold] = 1
        expected[azimuth.abs() > 180 - threshold] = 2
        for elevation in (-10.0, 0.0, 45.0, 60.0):
            assert torch.equal(sides(elevation, config), expected), (threshold, elevation)
        assert bool((sides(61.0, config) == 3).all())


def test_thresholds_reach_the_texts() -> None:
    camera = orbit(*(torch.tensor([value]) for value in (0.0, math.radians(40), 2.0, 1.0)))
    texts = Condition(torch.arange(4.0)[:, None, None])
    default, wider = (view_dependent(texts, camera, SidesConfig(front_deg=front)) for front in (30.0, 50.0))
    assert (default.tokens.item(), wider.tokens.item()) == (0, 1)
    (low, _), (high, _) = (
        perp_neg(texts, texts[:1], orbit(*(torch.tensor([v]) for v in (0.8, 0.5, 2.0, 1.0))), -0.5, sides)
        for sides in (SidesConfig(), SidesConfig(overhead_deg=40))
    )
    assert low.tokens.item() < 1 and high.tokens.item() == 3
