"""report.html: a run on one page, of its folder alone: how far it is, what it cost, previews, curves, configuration.

python -m scaledreamer.training.report runs/props-triplane
"""

import base64
import html
import json
import sys
from pathlib import Path
from typing import Any

from scaledreamer.errors import ModelFileError
from scaledreamer.files import atomic_path
from scaledreamer.progress import warn
from scaledreamer.training import record
from scaledreamer.training.metrics import COUNTS, METRICS, read_rows

REPORT = "report.html"
PREVIEWS = 6  # shown, evenly spread over the run
RECENT = 0.1  # of the rows: what the present throughput is measured over
STYLE = (
    "body{font:14px/1.4 sans-serif;margin:2em;max-width:75em}td,th{padding:.15em 1em .15em 0;text-align:left}"
    "figure{display:inline-block;margin:0 1em 1em 0}svg{max-width:100%;height:auto}pre{overflow:auto}"
)


def write_report(folder: Path) -> None:
    """Write report.html into a run's folder; whatever is in its way is a warning, for the run matters more."""
    try:
        with atomic_path(folder / REPORT) as partial:
            partial.write_text(page(folder))
    except Exception as error:
        warn(f"{folder / REPORT} was not written ({error}); the run goes on")


def page(folder: Path) -> str:
    """The page, with pictures and curves inside it."""
    try:
        told = record.read(folder)
    except ModelFileError:  # a run of an earlier version
        told = {"config": {}, "starts": []}
    rows = read_rows(folder / METRICS) if (folder / METRICS).exists() else []
    title = f"ScaleDreamer run {html.escape(folder.resolve().name)}"
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>",
        f"<h1>{title}</h1>", table(costs(rows, told)), previews(folder), curves(rows), starts(told["starts"]),
        f"<h2>Configuration</h2><pre>{html.escape(json.dumps(told['config'], indent=1))}</pre></html>",
    ]  # fmt: skip
    return "\n".join(parts)


def costs(rows: list[dict[str, Any]], told: dict[str, Any]) -> dict[str, str]:
    """How far the run is and what it cost, in words."""
    steps, examples = told["config"].get("loop", {}).get("steps"), told.get("examples_a_step")
    if not rows:
        return {"steps": f"none logged yet of {steps}"}
    last, since = rows[-1], rows[-max(1, round(RECENT * len(rows))) - 1] if len(rows) > 1 else {"step": 0, "wall_s": 0}
    pace = (last["step"] - since["step"]) / max(1e-9, last["wall_s"] - since["wall_s"])
    facts = {
        "steps": f"{last['step']:,} of {steps or 0:,}, {last['skipped']} of them skipped as not finite",
        "wall": f"{last['wall_s'] / 3600:.2f} h",
        "CPU": f"{last.get('core_s', last['cpu_s']) / 3600:.2f} h (of all processes, each taken as the first)",
        "pace": f"{pace:.3g} steps a second lately",
    }
    if examples:
        facts["examples"] = f"{last['step'] * examples:,}, {examples} a step, {pace * examples:.3g} a second lately"
    if steps and last["step"] < steps:
        facts["left"] = f"{(steps - last['step']) / max(1e-9, pace) / 3600:.2f} h at this pace"
    return facts


def table(facts: dict[str, str]) -> str:
    """Two columns."""
    rows = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in facts.items())
    return f"<table>{''.join(rows)}</table>"


def previews(folder: Path) -> str:
    """A few previews over the run, the last among them."""
    every = sorted((folder / "preview").glob("*.png"))
    shown = [every[(index + 1) * len(every) // PREVIEWS - 1] for index in range(PREVIEWS)] if every else []
    figures = [
        f"<figure><img alt='preview' src='data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}'>"
        f"<figcaption>step {int(path.stem)}</figcaption></figure>"
        for path in dict.fromkeys(shown)
    ]
    return "<h2>Previews</h2>" + "".join(figures) if figures else ""


def curves(rows: list[dict[str, Any]]) -> str:
    """Every logged number over the step, as SVG."""
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in COUNTS]
    if len(rows) < 2 or not names:
        return ""
    try:
        from scaledreamer.training.evaluation.curves import as_svg
    except ModuleNotFoundError as error:
        return f"<p>Curves need {error.name}: pip install 'scaledreamer[train]'</p>"
    return f"<h2>Curves</h2>{as_svg(rows, names)}"


def starts(every: list[dict[str, Any]]) -> str:
    """Where and how the run was begun and resumed."""
    lines = []
    for start in every:
        packages = ", ".join(f"{name} {number}" for name, number in start["packages"].items())
        what = (start["when"], start["step"], start["processes"], start["device"], start["command"], start["python"])
        cells = [*map(str, what), packages, start["git"] or "no clone"]
        lines.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(
        f"<th>{name}</th>"
        for name in ("when", "from step", "processes", "device", "command", "Python", "packages", "git")
    )
    return f"<h2>Starts</h2><table><tr>{head}</tr>{''.join(lines)}</table>" if lines else ""


def main() -> None:
    """Entry point."""
    folders = [Path(name) for name in sys.argv[1:]]
    if not folders or not all((folder / METRICS).exists() for folder in folders):
        raise SystemExit(f"usage: python -m scaledreamer.training.report RUN ...; a RUN holds {METRICS}")
    for folder in folders:
        write_report(folder)
        print(f"wrote {folder / REPORT}")


if __name__ == "__main__":
    main()
