"""The prior's error against time: an exact prior's known error, and the command on tiny models."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from scaledreamer.cli import evaluate_prior
from scaledreamer.errors import ModelFileError
from scaledreamer.model.cameras import Camera, turntable
from scaledreamer.model.generators import build_generator
from scaledreamer.model.generators.triplane_transformer import TriplaneTransformerConfig
from scaledreamer.model.library import save_generator
from scaledreamer.training.evaluation.prior_error import TIMES, Pictures, chosen_props, noise_error, show
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.priors.process import Cosine, NoiseProcess, scaled_linear
from scaledreamer.training.priors.props import PropsPrior, save_prior
from scaledreamer.training.priors.uvit import MultiViewUViT, UViTConfig
from scaledreamer.training.props.world import FIRST, WIDE

TINY_PRIOR = UViTConfig(pixels=16, stem=8, width=12, depth=1, heads=1)
TINY_GENERATOR = TriplaneTransformerConfig(
    width=12, heads=2, layers=1, text_width=384, low_res=2, plane_channels=4, radius=1.0, sphere_bias=0.5
)


class Gaussian(Prior):
    """The exact denoiser of x_0 ~ N(0, s^2)."""

    views = 2
    spread = 0.5

    def __init__(self, process: NoiseProcess) -> None:
        self.process = process

    def embed(self, prompts: list[str]) -> Condition:
        return Condition(torch.zeros(len(prompts), 1, 1))

    def encode(self, images: Tensor) -> Tensor:
        return images

    def eps(self, x_t: Tensor, t: Tensor, cond: Condition, camera: Camera | None = None) -> Tensor:
        assert camera is not None and len(cond) == len(x_t) == len(camera)
        alpha, sigma = self.process.alpha(t)[:, None, None, None], self.process.sigma(t)[:, None, None, None]
        return sigma * x_t / (alpha**2 * self.spread**2 + sigma**2)


def shown(prior: Prior, value: float) -> Pictures:
    """Two sets of constant pictures."""
    camera = turntable(4)
    return Pictures(torch.full((4, 3, 48, 48), value), prior.embed(["a", "b"]), camera)


@pytest.mark.parametrize("process", [Cosine(), scaled_linear()], ids=["cosine", "discrete"])
@pytest.mark.parametrize("value", [0.0, 2.0])
def test_the_error_of_a_gaussian_prior_is_the_known_one(process: NoiseProcess, value: float) -> None:
    """With v = alpha^2 s^2 + sigma^2 it is (alpha^2 s^2 / v)^2 from the noise plus (alpha sigma x_0 / v)^2."""
    prior, fractions = Gaussian(process), [0.2, 0.5, 0.8]
    found = noise_error(prior, shown(prior, value), fractions, 0.0, torch.Generator().manual_seed(0))
    for fraction, error in zip(fractions, found, strict=True):
        t = torch.tensor([process.time(fraction)])
        alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
        v = alpha**2 * prior.spread**2 + sigma**2
        expected = (alpha**2 * prior.spread**2 / v) ** 2 + (alpha * sigma * value / v) ** 2
        assert error == pytest.approx(expected, rel=0.05)


def test_reading_later_is_reading_at_the_shifted_time() -> None:
    prior = Gaussian(Cosine())
    later = noise_error(prior, shown(prior, 2.0), [0.52], 0.1, torch.Generator().manual_seed(0))
    there = noise_error(prior, shown(prior, 2.0), [0.57], 0.0, torch.Generator().manual_seed(0))
    now = noise_error(prior, shown(prior, 2.0), [0.52], 0.0, torch.Generator().manual_seed(0))
    assert later == pytest.approx(there, rel=1e-4) and later[0] < now[0]


def test_the_chosen_props_are_of_every_kind() -> None:
    assert {prop.kind for prop in chosen_props(10)} == set(FIRST.kinds)
    assert len({prop.kind for prop in chosen_props(16, WIDE)}) == 16


def test_all_pictures_of_a_prop_are_seen_by_the_same_cameras_in_the_prior_s_range() -> None:
    seen = show(PropsPrior(MultiViewUViT(TINY_PRIOR)), chosen_props(3), None)
    assert list(seen) == ["true pictures", "balls"]
    for pictures in seen.values():
        assert pictures.x_0.shape == (12, 4, 16, 16) and len(pictures.cond) == 3 and len(pictures.camera) == 12
        assert float(pictures.x_0.abs().max()) <= 1
        assert torch.equal(pictures.camera.c2w, seen["balls"].camera.c2w)
        assert 0.02 < float((pictures.x_0[:, 3] > 0).float().mean()) < 0.6, "something is there, and not everywhere"


def test_the_command_writes_curves_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    save_prior(MultiViewUViT(TINY_PRIOR), tmp_path / "prior.safetensors", {})
    save_generator(build_generator(TINY_GENERATOR), tmp_path / "generator.safetensors", {})
    out, model = tmp_path / "out", str(tmp_path / "generator.safetensors")
    evaluate_prior(str(tmp_path / "prior.safetensors"), model, out, sets=1)
    facts = json.loads((out / "prior-error.json").read_text())
    assert list(facts["error"]) == ["true pictures", "balls", "renders"] and facts["ratio"] == 0.1
    assert all(len(errors) == len(TIMES) for readings in facts["error"].values() for errors in readings.values())
    assert all(0 < error < 10 for readings in facts["error"].values() for error in readings["frozen"])
    with Image.open(out / "prior-error.png") as picture:
        assert picture.width >= 600
    assert "true pictures   frozen" in capsys.readouterr().out
    with pytest.raises(ModelFileError, match="no prior at"):
        evaluate_prior(str(tmp_path / "nothing.safetensors"), model, out)
