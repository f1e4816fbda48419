"""Batches: rows are read or refused, made once, resumed after any death, and the same on any number of processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaledreamer.batch import Summary, Worker, read_rows, run_batch
from scaledreamer.errors import ConfigError

FAST = {
    "preset": "prop",
    "resolution": 32,
    "faces": 200,
    "texture": 256,
    "lods": 1,
    "thumbnail": 0,
    "unwrap_budget_s": 60,
}


def rows_file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    rows = read_rows(rows_file(tmp_path, "a.txt", "a red mug\n\na blue mug\na red mug\n"), FAST, (".glb",))
    assert [row.prompt for row in rows] == ["a red mug", "a blue mug", "a red mug"]
    assert [row.number for row in rows] == [0, 1, 2] and len({row.name for row in rows}) == 3


def test_a_table_may_say_more_about_a_row(tmp_path: Path) -> None:
    text = 'prompt,name,size,formats,lods\n"a red mug, tall",Mug,0.2,.glb .obj,\na chair,,,,2\n'
    first, second = read_rows(rows_file(tmp_path, "a.csv", text), FAST, (".glb",))
    assert (first.name, first.formats, first.settings["size"]) == ("mug", (".glb", ".obj"), 0.2)
    assert (second.name, second.formats, second.settings["lods"]) == ("a-chair", (".glb",), 2)
    assert first.settings["lods"] == 1, "an empty cell says nothing"


def test_lines_of_json_may_say_more_about_a_row(tmp_path: Path) -> None:
    text = '{"prompt": "a mug", "seed": 3, "target": "godot"}\n{"prompt": "a chair", "formats": [".ply"]}\n'
    first, second = read_rows(rows_file(tmp_path, "a.jsonl", text), FAST, (".glb",))
    assert first.seed == 3 and first.settings["target"] == "godot" and second.formats == (".ply",)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"prompt": "a mug"}\n{"prompt": "a mug", "sizee": 2}\n', r"line 2: sizee"),
        ("a.jsonl", '{"prompt": ""}\n', r"line 1: the prompt is empty"),
        ("a.jsonl", "{\n", r"line 1: not JSON"),
        ("a.jsonl", "[1]\n", r"line 1: an object with 'prompt'"),
        ("a.jsonl", '{"prompt": "a mug", "seed": -1}\n', r"line 1: seed"),
        ("a.csv", "text\na mug\n", r"columns \['text'\]; one must be 'prompt'"),
        ("a.csv", "prompt,formats\na mug,.fbx\n", r"line 2: formats: cannot write '.fbx'"),
        ("a.txt", "\n \n", r"holds no prompts"),
        ("a.xlsx", "", r"cannot read prompts from '.xlsx'"),
    ],
)
def test_rows_that_cannot_be_made_are_refused_before_any_work(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_rows(rows_file(tmp_path, name, text), FAST, (".glb",))


def silent(_done: int, _summary: Summary) -> None:
    pass


def worker(out: Path) -> Worker:
    return Worker(out, None, None, "cpu")


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a batch but its log of seconds."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "log.jsonl")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_bytes_do_not_depend_on_jobs_and_a_failed_row_loses_no_other(tmp_path: Path) -> None:
    text = (
        '{"prompt": "a red mug"}\n{"prompt": "a chair", "seed": 1}\n{"prompt": "a blue barrel", "formats": [".obj"]}\n'
    )
    rows = read_rows(rows_file(tmp_path, "a.jsonl", text), FAST, (".glb",))
    one, two = tmp_path / "one", tmp_path / "two"
    for out, jobs in ((one, 1), (two, 2)):
        summary = run_batch(rows, worker(out), jobs, silent)
        assert summary.made == 2 and len(summary.failed) == 1 and "deterministic" in summary.failed[0]
    assert content(one) == content(two)
    results = [json.loads(line) for line in (one / "results.jsonl").read_text().splitlines()]
    assert [result["status"] for result in results] == ["made", "failed", "made"]
    again = run_batch(rows, worker(one), 1, silent)
    assert again.done_before == 2 and again.made == 0 and content(one) == content(two)


def test_a_folder_of_another_request_is_not_overwritten(tmp_path: Path) -> None:
    rows = read_rows(rows_file(tmp_path, "a.txt", "a red mug\n"), {**FAST, "texture": 0}, (".glb",))
    run_batch(rows, worker(tmp_path / "out"), 1, silent)
    other = read_rows(rows_file(tmp_path, "a.txt", "a red mug\n"), {**FAST, "texture": 0, "faces": 300}, (".glb",))
    with pytest.raises(ConfigError, match="holds an asset of another request"):
        run_batch(other, worker(tmp_path / "out"), 1, silent)


def command(prompts: Path, out: Path, jobs: int) -> list[str]:
    options = [f"--set={key}={value}" for key, value in FAST.items() if key != "preset"]
    return [
        sys.executable,
        "-c",
        "from scaledreamer.cli import main; main()",
        "batch",
        str(prompts),
        "-o",
        str(out),
        f"--jobs={jobs}",
        *options,
    ]


def kill_after_rows(prompts: Path, out: Path, rows: int) -> None:
    """Start a batch and kill it, and nothing but it, with SIGKILL once so many more rows are there."""
    wanted = len(list(out.glob("*/request.json"))) + rows
    process = subprocess.Popen(
        command(prompts, out, 2), stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    while len(list(out.glob("*/request.json"))) < wanted:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize(("count", "kills"), [(6, [2]), pytest.param(300, [7, 31, 60, 2, 90], marks=pytest.mark.slow)])
def test_a_killed_batch_goes_on_where_it_was(tmp_path: Path, count: int, kills: list[int]) -> None:
    colors = ["red", "blue", "green", "yellow", "orange", "pink"]
    kinds = [
        "mug",
        "chair",
        "table",
        "barrel",
        "house",
        "rocket",
        "mushroom",
        "potion bottle",
        "pine tree",
        "treasure chest",
    ]
    prompts = [f"a {colors[n % 6]} {kinds[n // 6 % 10]}" for n in range(count)]
    path = rows_file(tmp_path, "prompts.txt", "\n".join(prompts))
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for rows in kills:
        kill_after_rows(path, killed, rows)
    assert subprocess.run(command(path, killed, 2), stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert subprocess.run(command(path, whole, 1), stderr=subprocess.DEVNULL, check=False).returncode == 0
    results = [json.loads(line) for line in (killed / "results.jsonl").read_text().splitlines()]
    assert [result["row"] for result in results] == list(range(count))
    assert not list(killed.glob(".*partial*")) and content(killed) == content(whole)
