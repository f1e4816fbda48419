"""What an evaluation writes for a document."""

from scaledreamer.training.evaluation.report import SPLITS, page, sheet_cases, spread, tables
from scaledreamer.training.evaluation.suite import cases
from scaledreamer.training.props.world import WIDE

ROW = {"silhouette_iou": 0.9, "volumetric_iou": 0.8, "color_error": 0.04, "shape_r1": 1.0, "cases": 2}
RESULTS = {
    "generator": {
        "seen": {"all": ROW, "kinds": {"mug": ROW, "chair": ROW | {"volumetric_iou": 0.5}}},
        "pairs": {"all": ROW, "kinds": {"mug": ROW}},
    },
    "nearest seen prompt": {"seen": {"all": ROW | {"color_error": 0.123456}, "kinds": {}}},
}


def test_tables_have_every_row_of_means_and_the_generator_by_kind() -> None:
    means, kinds = tables(RESULTS).split("\n\n")
    assert (
        means.split("\n")[0] == "| row | prompts | cases | silhouette IoU | volumetric IoU | color error | shape R@1 |"
    )
    assert means.split("\n")[2:] == [
        "| generator | seen | 2 | 0.900 | 0.800 | 0.040 | 1.000 |",
        "| generator | pairs | 2 | 0.900 | 0.800 | 0.040 | 1.000 |",
        "| nearest seen prompt | seen | 2 | 0.900 | 0.800 | 0.123 | 1.000 |",
    ]
    assert kinds.split("\n")[2:-1] == [
        "| mug | 0.90 / 0.90 | 0.80 / 0.80 | 0.04 / 0.04 | 1.00 / 1.00 |",
        "| chair | 0.90 / - | 0.50 / - | 0.04 / - | 1.00 / - |",
    ]


def test_the_page_tells_what_the_tables_tell() -> None:
    told = page(RESULTS)
    for line in tables(RESULTS).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line and not line.startswith("|---"):
            assert "".join(f"<td>{cell}</td>" for cell in cells) in told


def test_an_evaluation_of_one_split_is_told_as_well() -> None:
    one = {"generator": {"pairs": RESULTS["generator"]["pairs"]}}
    assert "| generator | pairs | 2 |" in tables(one) and "pairs" in page(one)


def test_the_sheet_shows_every_kind_and_every_split() -> None:
    chosen = {split: spread(cases(WIDE, split), 70) for split in SPLITS}
    shown = sheet_cases(chosen)
    assert {case.split for case in shown} == set(SPLITS)
    kinds = [case.prop.kind for case in shown]
    assert set(kinds) == set(WIDE.kinds) and len(kinds) == len({case.prompt for case in shown})
    rows = [kinds[start : start + 4] for start in range(0, len(kinds), 4)]
    assert all(len(set(row)) == 1 for row in rows), "a row a kind"
    only = {"pairs": chosen["pairs"]}
    assert {case.split for case in sheet_cases(only)} == {"pairs"}
