"""Metrics with known answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scaledreamer.export.mesh import Mesh
from scaledreamer.model.fields.base import Field, FieldSample
from scaledreamer.training.evaluation.metrics import compare, iou, measure, surface_points
from scaledreamer.training.evaluation.report import SPLITS
from scaledreamer.training.evaluation.suite import (
    Case,
    cases,
    color_found,
    nearest_shape,
    random_proportions,
    score,
    summarize,
    true_measures,
)
from scaledreamer.training.props.grammar import canonical
from scaledreamer.training.props.shapes import truth
from scaledreamer.training.props.words import MATERIALS
from scaledreamer.training.props.world import FIRST, WIDE, Prop, World


class Nothing(Field):
    bound = 1.0

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int | slice) -> "Nothing":
        return self

    def sdf(self, points: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(points[..., :1])

    def query(self, points: torch.Tensor) -> FieldSample:
        return FieldSample(self.sdf(points), torch.zeros_like(points))


def test_the_truth_scores_perfectly() -> None:
    row = score(measure(truth(Prop("mushroom", "red"))), Prop("mushroom", "red"), FIRST)
    assert row["volumetric_iou"] == row["silhouette_iou"] == row["f_score"] == 1
    assert row["kind_r1"] == row["shape_r1"] == row["view_r1"] == row["color_r1"] == 1
    assert row["chamfer"] < 1e-6 and row["color_error"] < 1e-6


def test_a_shape_that_is_measured_once_has_the_colours_of_every_prop() -> None:
    prop = Prop("mug", "blue", "tall", second="yellow", material="wooden")
    kept, alone = true_measures(prop), measure(truth(prop))
    for name, value in vars(alone).items():
        np.testing.assert_array_equal(getattr(kept, name), value, err_msg=name)


def test_a_wrong_colour_is_measured_and_retrieved_as_wrong() -> None:
    found = measure(truth(Prop("mug", "blue")))
    asked = Prop("mug", "red")
    row = compare(found, true_measures(asked))
    assert row["volumetric_iou"] == 1
    assert 0.15 < row["color_error"] < 0.5
    assert nearest_shape(found, FIRST) == ("mug", "plain") and color_found(found, asked, FIRST) == 0


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("second", [None, "white"])
def test_a_colour_is_known_in_every_material(material: str, second: str | None) -> None:
    asked = Prop("barrel", "purple", second=second, material=material)
    assert color_found(true_measures(asked), asked, WIDE) == 1
    assert color_found(true_measures(replace(asked, color="green")), asked, WIDE) == 0


def test_a_wrong_size_is_retrieved_as_wrong() -> None:
    row = score(measure(truth(Prop("barrel", "red", "tall"))), Prop("barrel", "red"), FIRST)
    assert row["kind_r1"] == 1 and row["shape_r1"] == row["view_r1"] == 0


def test_views_are_retrieved_one_by_one() -> None:
    asked, other = Prop("rocket", "red"), Prop("chest", "red")
    mixed = measure(truth(asked))
    mixed.silhouette[:1] = measure(truth(other)).silhouette[:1]
    assert score(mixed, asked, FIRST)["view_r1"] == 3 / 4 and score(mixed, other, FIRST)["view_r1"] == 1 / 4


def test_no_surface_scores_nothing() -> None:
    row = score(
        measure(Nothing()), Prop("barrel", "red"), FIRST
    )  # the first of all shapes, where an argmax of zeros points
    assert row["volumetric_iou"] == row["f_score"] == row["color_r1"] == row["shape_r1"] == row["view_r1"] == 0
    assert row["color_error"] == 1


def test_random_proportions_score_below_the_truth_and_above_another_kind() -> None:
    prop = Prop("table", "green")
    case = Case(canonical(prop), prop, "seen")
    close = score(random_proportions(case), prop, FIRST)
    far = score(measure(truth(Prop("tree", "green"))), prop, FIRST)
    assert 0.6 < close["volumetric_iou"] < 1
    assert far["volumetric_iou"] < 0.4 < close["volumetric_iou"]


@pytest.mark.parametrize("world", [FIRST, WIDE], ids=["first", "wide"])
def test_splits_are_disjoint_and_complete(world: World) -> None:
    by_split = {split: cases(world, split) for split in SPLITS}
    props = [case.prop for split, some in by_split.items() if split not in ("wordings", "materials") for case in some]
    assert len(props) == len(set(props)) == len(list(world.props()))
    assert all(world.split_of(case.prop) == "seen" for case in by_split["wordings"])
    assert bool(by_split["kinds"]) == bool(by_split["materials"]) == world.visible
    assert len({case.prop.material for case in by_split["materials"]}) == (4 if world.visible else 0)
    assert not {case.prompt for case in by_split["wordings"]} & {case.prompt for case in by_split["seen"]}


def test_points_are_spread_by_area() -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5], [8, 5, 5], [5, 6, 5]], np.float32)
    mesh = Mesh(corners, np.array([[0, 1, 2], [3, 4, 5]]), np.zeros((6, 3), np.float32))
    points = surface_points(mesh, 4000, np.random.default_rng(0))
    assert (points[:, 0] > 3).mean() == pytest.approx(0.75, abs=0.03)


def test_iou_and_summaries() -> None:
    a, b = torch.tensor([True, True, False]), torch.tensor([False, True, True])
    assert iou(a, b) == pytest.approx(1 / 3)
    rows = [(Case("x", Prop(kind, "red"), "seen"), {"score": value}) for kind, value in (("mug", 0.0), ("tree", 1.0))]
    summary = summarize(rows)
    assert summary["all"] == {"score": 0.5, "cases": 2}
    assert summary["kinds"]["tree"] == {"score": 1.0, "cases": 1}
