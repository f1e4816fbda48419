"""One asset, longer: one seed, one field; the best is kept, to the bit; what is kept exports like any other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from scaledreamer.errors import ConfigError, ModelFileError
from scaledreamer.model.cameras import Camera
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.copies import averaged, own_copy
from scaledreamer.model.fields.files import stored
from scaledreamer.model.fields.stretched import StretchedField
from scaledreamer.model.generators import (
    Conv3DConfig,
    HyperNGPConfig,
    PromptNGPConfig,
    TriplaneTransformerConfig,
    build_generator,
)
from scaledreamer.model.rendering import render
from scaledreamer.training import refine as refining
from scaledreamer.training.priors.base import Condition, Prior
from scaledreamer.training.priors.process import rows, scaled_linear
from scaledreamer.training.priors.props import PropsPrior
from scaledreamer.training.priors.uvit import MultiViewUViT, UViTConfig
from scaledreamer.training.refine import Check, RefineConfig, refine
from scaledreamer.training.refine_preview import ROWS, Strip
from scaledreamer.training.views import sample_views
from tests.export.fields import Analytic, ball
from tests.training.test_step import WIDTH, Letters

GRID: dict[str, Any] = {"levels": 2, "log2_entries": 8}
SUMMED = {"kind": "summed", "hidden": 8}
GENERATORS = {
    "triplane": TriplaneTransformerConfig.model_validate(
        {"width": 16, "text_width": WIDTH, "layers": 1, "heads": 2, "low_res": 2, "plane_channels": 4, "radius": 1.0,
         "sphere_bias": 0.5, "decoder": SUMMED}
    ),
    "painted and stretched": TriplaneTransformerConfig.model_validate(
        {"width": 16, "text_width": WIDTH, "layers": 1, "heads": 2, "low_res": 2, "plane_channels": 4, "radius": 1.0,
         "sphere_bias": 0.5, "decoder": SUMMED, "palette": 3, "stretch": True}
    ),
    "voxel": Conv3DConfig.model_validate(
        {"text_width": WIDTH, "style_width": 8, "channels": [8, 8], "voxel_channels": 4, "hidden": 8, "radius": 1.0,
         "sphere_bias": 0.5}
    ),
    "hash-grid": HyperNGPConfig.model_validate(
        {"text_width": WIDTH, "width": 8, "grid": GRID, "hidden": 8, "radius": 1.0}
    ),
    "density": PromptNGPConfig.model_validate({"grid": GRID, "hidden": 8}),
}  # fmt: skip
STEP = {
    "loss": {"kind": "asd", "guidance": 1.0, "weight": "x0"}, "times": {"t_min": 0.6, "t_max": 0.9},
    "renderer": {"kind": "lattice", "nodes": 8, "samples": 6}, "pixels": 16,
}  # fmt: skip
SHORT = {"distill": STEP, "steps": 4, "check_every": 2, "most_gain": 1, "judge": {"sets": 1, "times": [0.8]}}


def config(**others: Any) -> RefineConfig:
    return RefineConfig.model_validate({**SHORT, **others})


def field(kind: str = "triplane") -> Field:
    torch.manual_seed(0)
    generator = build_generator(GENERATORS[kind]).eval().requires_grad_(False)
    made: Field = generator(Letters().encode(["a mug", "a hat"]))
    return made


@pytest.fixture(scope="module")
def prior() -> PropsPrior:
    torch.manual_seed(0)
    network = MultiViewUViT(UViTConfig(pixels=16, stem=8, width=24, depth=2, heads=2, text_width=WIDTH))
    for parameter in network.parameters():  # what starts as zero would say nothing
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return PropsPrior(network, Letters())


def same(a: Field, b: Field) -> bool:
    ours, theirs = stored(a[0])[1], stored(b[0])[1]
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def scored(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    """A judge that says these, in turn."""
    left = iter(scores)
    monkeypatch.setattr(refining, "judge", lambda *_: next(left))


@pytest.mark.parametrize("kind", GENERATORS)
def test_every_kind_of_field_is_refined_the_same_for_the_same_seed(
    kind: str, prior: PropsPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, others = field(kind), field(kind)
    results = []
    for seed in (0, 0, 1):
        scored(monkeypatch, [3.0, 2.0, 1.0])
        results.append(refine(before, "a mug", prior, config(seed=seed)))
    first, again, other = results
    assert same(first.field, again.field) and not same(first.field, other.field) and not same(first.field, before)
    assert [check.step for check in first.checks] == [0, 2, 4] and first.kept.step == 4 and first.ended == "steps"
    assert same(before, others), "what was given stays as it is"
    assert len(first.field) == 1 and not any(tensor.requires_grad for tensor in stored(first.field)[1].values())


@pytest.mark.parametrize("kind", GENERATORS)
def test_the_average_of_scenes_has_the_mean_of_what_each_has_brought(kind: str) -> None:
    both = field(kind)
    (_, first), (_, second), (_, found) = (own_copy(scene) for scene in (both[0], both[1], averaged(both)))
    for a, b, middle in zip(first, second, found, strict=True):
        assert torch.allclose(middle, (a + b) / 2, atol=1e-6)
    assert len(averaged(both)) == 1 and same(averaged(both[1:]), both[1])
    if isinstance(both, StretchedField):
        assert torch.allclose(averaged(both).stretch, both.stretch.mean(0, keepdim=True))


def test_what_has_no_scenes_to_average_is_refused() -> None:
    with pytest.raises(ModelFileError, match="scenes of a Analytic cannot be averaged"):
        averaged(Analytic((ball(), ball())))


def test_only_what_the_prompt_has_brought_is_trained(prior: PropsPrior, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, [3.0, 2.0, 1.0])
    before = field("voxel")
    ours, theirs = stored(refine(before, "a mug", prior, config()).field)[1], stored(before[0])[1]
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == ["voxels"]


def test_a_judge_that_only_worsens_gives_the_first_field_back_to_the_bit(
    prior: PropsPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, [1.0, 2.0, 3.0])
    before = field()
    refined = refine(before, "a mug", prior, config())
    assert same(refined.field, before) and refined.kept == Check(0, 1.0, best=True)


def test_the_best_is_kept_though_later_ones_are_worse(prior: PropsPrior, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[Check, dict[str, Tensor]]] = []

    def told(check: Check, looked_at: Field) -> None:
        heard.append((check, {name: tensor.clone() for name, tensor in stored(looked_at)[1].items()}))

    scored(monkeypatch, [3.0, 1.0, 2.0])
    refined = refine(field(), "a mug", prior, config(), [told])
    assert refined.kept.step == 2 and [check.best for check in refined.checks] == [True, True, False]
    assert [check for check, _ in heard] == list(refined.checks)
    kept = stored(refined.field)[1]
    assert torch.equal(kept["planes"], heard[1][1]["planes"]) and not torch.equal(kept["planes"], heard[2][1]["planes"])


def test_it_ends_where_no_check_has_been_better_for_a_while(prior: PropsPrior, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, [3.0, 2.0, 2.5, 2.5, 1.0])
    refined = refine(field(), "a mug", prior, config(steps=100, check_every=1, patience=2))
    assert refined.ended == "patience" and [check.step for check in refined.checks] == [0, 1, 2, 3]
    assert refined.kept.step == 1


def test_it_begins_from_the_answer_that_the_judge_likes_best(
    prior: PropsPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, others = field()[0], [field()[1], averaged(field())]
    scored(monkeypatch, [3.0, 4.0, 2.0, 2.5, 2.5])
    refined = refine(first, "a mug", prior, config(), also=others)
    assert same(refined.field, others[1]) and refined.kept == Check(0, 2.0, best=True)
    scored(monkeypatch, [3.0, 4.0, 3.0, 3.5, 3.5])
    assert same(refine(first, "a mug", prior, config(), also=others).field, first)
    scored(monkeypatch, [3.0, 4.0, 2.0, 1.0, 1.5])
    chosen = refine(first, "a mug", prior, config(), also=others)
    scored(monkeypatch, [2.0, 1.0, 1.5])
    assert same(chosen.field, refine(others[1], "a mug", prior, config()).field)


def test_what_the_judge_likes_very_much_better_is_another_thing(
    prior: PropsPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = field()
    scored(monkeypatch, [10.0, 9.5, 8.9])
    refined = refine(before, "a mug", prior, config(most_gain=0.1))
    assert refined.ended == "distrusted" and same(refined.field, before) and refined.kept == Check(0, 10.0, best=True)
    scored(monkeypatch, [10.0, 9.5, 9.1])
    assert refine(before, "a mug", prior, config(most_gain=0.1)).kept.step == 4
    scored(monkeypatch, [10.0, 8.9, 10.5, 10.5])
    assert same(refine(before, "a mug", prior, config(most_gain=0.1), also=[before[1]]).field, before)


def test_a_score_that_is_no_number_is_never_the_best(prior: PropsPrior, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, [3.0, float("nan"), 4.0])
    assert refine(field(), "a mug", prior, config()).kept.step == 0
    scored(monkeypatch, [float("nan")])
    with pytest.raises(ConfigError, match="score of the first field is nan: does 'a mug' have a surface"):
        refine(field(), "a mug", prior, config())


def test_steps_that_are_not_finite_are_skipped_and_end_it(prior: PropsPrior, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson = refining.lesson
    monkeypatch.setattr(refining, "lesson", lambda *given: (lesson(*given)[0] * float("nan"), {}))
    before = field()
    refined = refine(before, "a mug", prior, config(steps=100, check_every=50))
    assert refined.ended == "not-finite" and same(refined.field, before)


def test_the_judge_asks_every_field_the_same(prior: PropsPrior) -> None:
    work = refining.Work(field(), "a mug", prior, config(judge={"sets": 2, "times": [0.7, 0.9]}))
    first, again = work.score(work.average), work.score(work.average)
    assert first == again > 0
    work.averages[0].add_(torch.randn(work.averages[0].shape, generator=torch.Generator().manual_seed(0)))
    assert work.score(work.average) != first


class Believes(Prior):
    """Sees one level of grey in every x_t."""

    views, process = 1, scaled_linear()

    def __init__(self, level: float) -> None:
        self.level = level

    def embed(self, prompts: list[str]) -> Condition:
        return Condition(torch.zeros(len(prompts), 1, 1))

    def encode(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
        return 2 * images - 1

    def eps(self, x_t: Tensor, t: Tensor, cond: Condition, camera: Camera | None = None) -> Tensor:
        alpha, sigma = rows(self.process.alpha(t)), rows(self.process.sigma(t))
        return (x_t - alpha * self.level) / sigma


@pytest.mark.parametrize("level", [0.0, 0.7])
def test_the_score_is_how_far_the_pictures_are_from_what_the_prior_believes(level: float) -> None:
    before, views = field(), {**STEP, "views": {"views": 1}}
    work = refining.Work(before, "a mug", Believes(level), config(distill=views))
    rng = torch.Generator().manual_seed(0)
    camera = sample_views(work.config.distill.views, 1, rng)
    seen = render(before[0], camera, work.background, 16, work.config.distill.renderer_at(1, 1), rng)
    assert work.score(before) == pytest.approx(float((2 * seen.rgb - 1 - level).square().mean()), rel=1e-3)


def test_distillation_brings_the_score_down_and_the_field_towards_the_belief() -> None:
    adam = {"kind": "adam", "lr": 0.05}
    longer = config(
        distill={**STEP, "views": {"views": 1}},
        steps=120,
        check_every=60,
        ema=0.5,
        optimizer=adam,
        hold_colors=0,
        hold_spread=0,
    )
    refined = refine(field(), "a mug", Believes(0.0), longer)
    assert refined.kept.step > 0 and refined.kept.score < 0.95 * refined.checks[0].score


@pytest.mark.parametrize("kind", ["triplane", "painted and stretched", "voxel", "hash-grid"])
def test_the_colours_on_the_surface_stay_while_the_shape_moves(kind: str) -> None:
    before = field(kind)
    skin = refining.near_surface(before)
    near, far = (before[0].query(points).sdf.abs() for points in (skin, 2 * torch.rand(1, 4096, 3) - 1))
    assert near.max() <= far.median()
    moved = {}
    for held in (0.0, 1e7):
        settings = config(
            distill={**STEP, "views": {"views": 1}}, optimizer={"kind": "adam", "lr": 0.05}, steps=60, hold_colors=held
        )
        work = refining.Work(before, "a mug", Believes(0.0), settings)
        for step in range(1, 61):
            assert work.advance(step)
        now, then = work.own.query(skin), before[0].query(skin)
        moved[held] = [float((a - b).detach().square().mean()) for a, b in ((now.rgb, then.rgb), (now.sdf, then.sdf))]
    assert moved[1e7][0] < 0.25 * moved[0.0][0] and moved[1e7][1] > 0


def test_the_spread_of_a_ball_is_its_centre_and_its_radius_over_the_root_of_five() -> None:
    class Ball(Analytic):
        def sdf(self, points: torch.Tensor) -> torch.Tensor:
            return (points - torch.tensor([0.1, -0.2, 0.0])).norm(dim=-1, keepdim=True) - 0.6

    center, deviation = refining.spread(Ball((ball(),)), refining.drawn(Ball((ball(),)), 1 << 17))
    torch.testing.assert_close(center, torch.tensor([0.1, -0.2, 0.0]), rtol=0, atol=0.01)
    torch.testing.assert_close(deviation, torch.full((3,), 0.6 / 5**0.5), rtol=0.02, atol=0)
    now = torch.stack([center + 0.1 * deviation, 1.2 * deviation])
    assert float(refining.relative_change(now, torch.stack([center, deviation]))) == pytest.approx(0.025)


@pytest.mark.parametrize("kind", ["triplane", "voxel"])
def test_the_spread_of_matter_stays_while_the_shape_moves(kind: str) -> None:
    before, changes = field(kind), {}
    for held in (0.0, 1e9):
        settings = config(
            distill={**STEP, "views": {"views": 1}}, optimizer={"kind": "adam", "lr": 0.05}, steps=60,
            hold_colors=0, hold_spread=held,
        )  # fmt: skip
        work = refining.Work(before, "a mug", Believes(0.0), settings)
        for step in range(1, 61):
            assert work.advance(step)
        shape = (work.own.sdf(work.skin) - before[0].sdf(work.skin)).detach().abs().mean()
        change = refining.relative_change(refining.spread(work.own, work.box), work.spread).detach()
        changes[held] = float(change), float(shape)
    assert changes[1e9][0] < 0.1 * changes[0.0][0] and changes[1e9][1] > 0


@pytest.mark.parametrize("views", [1, 2, 6])
def test_views_that_make_no_whole_sets_are_refused(views: int, prior: PropsPrior) -> None:
    with pytest.raises(ConfigError, match=rf"views={views} makes no whole set .* set distill.views.views=4"):
        refine(field(), "a mug", prior, config(distill={**STEP, "views": {"views": views}}))


def test_a_field_of_another_kind_is_refused() -> None:
    with pytest.raises(ModelFileError, match="cannot be refined; give a DensityField"):
        own_copy(Analytic((ball(),)))


def test_the_strip_grows_by_a_row_a_check_and_thins_out(tmp_path: Path) -> None:
    strip, heights = Strip(config(), tmp_path / "strip.png"), []
    for step in range(ROWS + 1):
        strip(Check(step, 1.0, best=False), field())
        with Image.open(strip.path) as picture:
            heights.append(picture.height // 96)
    assert heights[:3] == [1, 2, 3] and max(heights) == ROWS and heights[-1] < ROWS
