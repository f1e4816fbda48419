"""The official renderer, its samples, weights and losses."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from fixtures import error, fixture, under
from pydantic import ValidationError
from torch import Tensor

from scaledreamer.model.cameras import Camera
from scaledreamer.model.fields.base import Field, FieldSample
from scaledreamer.model.fields.color import ColorActivation, activate_color
from scaledreamer.model.rendering import HarmonicBackground, Rendering, VolSDFConfig
from scaledreamer.model.rendering import volsdf as volsdf_module
from scaledreamer.model.rendering.density import official_sharpness
from scaledreamer.model.rendering.volsdf import render_volsdf
from scaledreamer.training.regularizers import RegularizerConfig, regularize


@dataclass
class Wavy(Field):
    """The analytic geometry of the fixtures; `phase` is what a prompt changes."""

    phase: Tensor  # [B]
    color: ColorActivation
    bound: float = 2.0

    def __len__(self) -> int:
        return len(self.phase)

    def __getitem__(self, index: int | slice) -> "Wavy":
        return Wavy(self.phase[index].reshape(-1), self.color)

    def sdf(self, points: Tensor) -> Tensor:
        x, y, z = points.unbind(-1)
        s = self.phase[:, None]
        wave = 0.08 * torch.sin(5 * x) * torch.cos(4 * y) + 0.03 * torch.sin(7 * z + s)
        return (points.norm(dim=-1) - 0.55 + wave)[..., None]

    def query(self, points: Tensor) -> FieldSample:
        x, y, z = points.unbind(-1)
        s = self.phase[:, None]
        features = torch.stack([torch.sin(2 * x + s), torch.cos(3 * y - z), x * y * z + 0.3 * s], dim=-1)
        return FieldSample(self.sdf(points), activate_color(features, self.color))


def background(tensors: dict[str, Tensor], color: ColorActivation) -> HarmonicBackground:
    module = HarmonicBackground(color)
    weights = under("sd/background.network.layers.", tensors)
    module.network.load_state_dict(weights)
    return module


def rendered(
    name: str, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[Rendering, dict[str, Tensor], dict[str, Any], HarmonicBackground]:
    tensors, meta = fixture(name)
    given = (tensors["in/rays_o"], tensors["in/rays_d"])
    monkeypatch.setattr(volsdf_module, "rays", lambda camera, height, width: given)
    sharpness = official_sharpness(tensors["sd/renderer.variance._inv_std"])
    field = Wavy(tensors["in/space_cache"][:, 0], meta["color_activation"])
    behind = background(tensors, meta["color_activation"])
    views = given[0].shape[0]
    camera = Camera(torch.eye(4).expand(views, 4, 4), torch.ones(views))  # the rays are given
    result = render_volsdf(
        field, camera, behind, tuple(given[0].shape[1:3]), VolSDFConfig(sharpness=sharpness, **options), None
    )
    return result, tensors, meta, behind


def check(result: Rendering, tensors: dict[str, Tensor]) -> None:
    pairs: dict[str, Tensor] = {
        "comp_rgb": result.rgb, "comp_rgb_fg": result.foreground, "comp_rgb_bg": result.background,
        "opacity": result.opacity, "depth": result.depth, "z_variance": result.z_variance, "comp_normal": result.normal,
    }  # fmt: skip
    for name, found in pairs.items():
        assert error(found, tensors[f"out/{name}"]) < 3e-4, name
    if "out/t_edges" in tensors:
        assert result.samples.edges is not None
        assert error(result.samples.edges.flatten(0, 1), tensors["out/t_edges"]) < 1e-3


@pytest.mark.parametrize("name", ["volsdf_eval", "volsdf_eval_shared_cache"])
def test_evaluation_pictures_equal_the_official_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        result, tensors, _, _ = rendered(name, monkeypatch)
    check(result, tensors)


def test_chunks_do_not_change_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        result, tensors, _, _ = rendered("volsdf_eval", monkeypatch, chunk=7)
    check(result, tensors)


def test_training_pictures_samples_and_losses_equal_the_official_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, meta = fixture("volsdf_train")
    jitters = (recorded["rec/jitter_proposal"], recorded["rec/jitter_fine"])
    monkeypatch.setattr(volsdf_module, "_jitters", lambda *_: jitters)
    result, tensors, _, behind = rendered("volsdf_train", monkeypatch)
    check(result, tensors)
    samples = result.samples
    assert samples.weights is not None
    assert error(samples.weights.flatten(0, 1), tensors["out/weights"]) < 3e-4
    for name, found, tolerance in (
        ("sdf", samples.sdf, 2e-5),
        ("sdf_grad", samples.sdf_gradient, 5e-3),
        ("normal", samples.normal, 5e-3),
    ):
        assert error(found.flatten(0, 1)[:256], tensors[f"out/first_256_samples.{name}"]) < tolerance, name

    weights = {name.removeprefix("lambda_"): value for name, value in meta["loss"].items()}
    asd = weights.pop("asd") * result.rgb.square().sum() / len(result.rgb)
    config = RegularizerConfig.model_validate(weights)
    total, values = regularize(config, result, meta["global_step"], steps=1)
    for name, value in values.items():
        expected = meta["logged"][f"train/loss_{name}"]
        assert abs(value - expected) / max(1.0, abs(expected)) < 3e-4, name
    assert set(values) == set(weights)
    loss = asd + total
    assert error(loss.detach(), tensors["out/loss_total"]) < 3e-4
    loss.backward()
    for index, layer in enumerate((0, 2, 4)):
        gradient = behind.network[layer].weight.grad
        assert isinstance(gradient, Tensor)
        assert error(gradient, tensors[f"out/background_grad.{index}"]) < 3e-4


def test_official_sharpness_is_thirty_and_never_above_eighty() -> None:
    assert official_sharpness(0.340119) == pytest.approx(30.0, abs=1e-3)
    assert official_sharpness(1.0) == 80.0


@pytest.mark.parametrize("values", [{"proposals": 1}, {"fine": 1}, {"near": 4.0, "far": 1.0}])
def test_a_march_without_intervals_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        VolSDFConfig.model_validate(values)
