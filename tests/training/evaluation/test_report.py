"""What an evaluation writes for a document."""

from scaledreamer.training.evaluation.report import page, tables

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
