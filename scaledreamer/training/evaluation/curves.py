"""Training curves from a run's metrics log.

python -m scaledreamer.training.evaluation.curves runs/props-prior/metrics.jsonl -o curves.png loss grad_norm

The names are those of the log; a number that is missing from a row is passed over.
"""

import argparse
import io
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from scaledreamer.training.metrics import read_rows

SMOOTH = 9  # rows of the running mean


COLUMNS = 3  # of panels, where there are many
SVG: Any = {"svg.hashsalt": "scaledreamer", "svg.fonttype": "none"}  # the same rows, the same bytes; text stays text


def draw(panel: Axes, rows: list[dict[str, Any]], name: str) -> None:
    """A number over the step, thin as logged and thick smoothed."""
    points = [(row["step"], row[name]) for row in rows if name in row]
    steps, values = [step for step, _ in points], [value for _, value in points]
    half = SMOOTH // 2
    windows = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    panel.plot(steps, values, color="#b9c4d6", linewidth=0.7)
    panel.plot(steps, [sum(window) / len(window) for window in windows], color="#1f4e9c")
    panel.set_title(name)
    panel.set_xlabel("step")
    panel.set_yscale("log" if min(values) > 0 and max(values) / min(values) > 20 else "linear")
    panel.grid(alpha=0.3)


def plot(log: Path, out: Path, names: list[str]) -> None:
    """One panel a number; wall time in the title."""
    rows = read_rows(log)
    figure, panels = pyplot.subplots(1, len(names), figsize=(5 * len(names), 3.2), squeeze=False)
    for panel, name in zip(panels[0], names, strict=True):
        draw(panel, rows, name)
    last = rows[-1]
    figure.suptitle(f"{last['step']} steps, {last['wall_s'] / 3600:.2f} h wall, {last['skipped']} skipped")
    figure.tight_layout()
    figure.savefig(out, dpi=80)
    pyplot.close(figure)


def as_svg(rows: list[dict[str, Any]], names: list[str]) -> str:
    """One panel a number, as an SVG element."""
    lines = -(-len(names) // COLUMNS)
    figure, panels = pyplot.subplots(lines, COLUMNS, figsize=(4.2 * COLUMNS, 2.6 * lines), squeeze=False)
    for panel, name in zip(panels.flat, names, strict=False):
        draw(panel, rows, name)
    for panel in panels.flat[len(names) :]:
        panel.remove()
    figure.tight_layout()
    text = io.StringIO()
    with matplotlib.rc_context(SVG):
        figure.savefig(text, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    written = text.getvalue()
    return written[written.index("<svg") :]


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("names", nargs="+")
    options = parser.parse_args()
    plot(options.log, options.out, options.names)


if __name__ == "__main__":
    main()
