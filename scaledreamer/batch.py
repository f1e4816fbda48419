"""Many prompts to many finished assets: resumable after any death, and the same bytes on any number of processes.

A row's files are made in a hidden folder that becomes assets/NAME in one rename; then a line goes to results.jsonl. A
row is done when its folder is there and its request.json names the same request, so a run that is begun again loses
nothing and makes nothing twice. When all rows are done results.jsonl is written anew in their order. Seconds go to
log.jsonl.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pydantic import Field as Limits
from pydantic import ValidationError

from scaledreamer.config import Config, explain
from scaledreamer.errors import ConfigError, ScaleDreamerError
from scaledreamer.export.formats import SUFFIXES, check_libraries
from scaledreamer.export.names import slug, unique
from scaledreamer.export.presets import asset_settings
from scaledreamer.files import atomic_path
from scaledreamer.prompt import check_prompt

COLUMNS = ("prompt", "name", "seed", "formats")  # beside these a row may name any setting of an asset


class Row(Config):
    """One asset to make."""

    number: int  # from 0, in the file's order
    name: str  # of its folder
    prompt: str
    seed: int | None = Limits(default=None, ge=0, le=2**63 - 1)
    formats: tuple[str, ...] = (".glb",)
    settings: dict[str, Any] = Limits(default_factory=dict)  # beside the preset's


@dataclass
class Summary:
    """What a run did."""

    rows: int
    done_before: int = 0
    made: int = 0
    failed: list[str] = field(default_factory=list)


def read_rows(path: Path, given: dict[str, Any], formats: tuple[str, ...]) -> list[Row]:
    """The rows of a .txt (a prompt a line), .csv (a header with `prompt`) or .jsonl file; a row wins over `given`.

    Raises ConfigError naming the line, before any work.
    """
    rows: list[Row] = []
    taken: set[str] = set()
    for line, raw in raw_rows(path):
        try:
            prompt = check_prompt(raw.get("prompt"))
            own = {key: value for key, value in raw.items() if key not in COLUMNS}
            settings = {**given, **own}
            asset_settings(**settings)
            chosen = (
                tuple(raw["formats"]) if isinstance(raw.get("formats"), list) else split(raw.get("formats"), formats)
            )
            unknown = [suffix for suffix in chosen if suffix not in SUFFIXES]
            if unknown:
                raise ConfigError(f"formats: cannot write {unknown[0]!r}; choose from {SUFFIXES}")
            check_libraries(chosen)
            name = unique(slug(str(raw.get("name") or prompt)), taken)
            taken.add(name)
            seed = raw.get("seed")
            rows.append(
                Row(
                    number=len(rows),
                    name=name,
                    prompt=prompt,
                    seed=None if seed in (None, "") else seed,
                    formats=chosen,
                    settings=settings,
                )
            )
        except ValidationError as error:
            raise ConfigError(f"{path}, line {line}: {explain(error)}") from error
        except ScaleDreamerError as error:
            raise ConfigError(f"{path}, line {line}: {error}") from error
    if not rows:
        raise ConfigError(f"{path} holds no prompts")
    return rows


def split(cell: object, otherwise: tuple[str, ...]) -> tuple[str, ...]:
    """Formats in a cell such as ".glb .obj"."""
    return tuple(str(cell).split()) if cell else otherwise


def raw_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line numbers and what the lines say."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}") from error
    match path.suffix.lower():
        case ".txt":
            for number, line in enumerate(text.splitlines(), start=1):
                if line.strip():
                    yield number, {"prompt": line}
        case ".csv":
            reader = csv.DictReader(text.splitlines())
            if "prompt" not in (reader.fieldnames or []):
                raise ConfigError(f"{path} has the columns {reader.fieldnames}; one must be 'prompt'")
            for cells in reader:
                yield (
                    reader.line_num,
                    {key: typed(value) for key, value in cells.items() if key and value not in (None, "")},
                )
        case ".jsonl":
            for number, line in enumerate(text.splitlines(), start=1):
                if line.strip():
                    try:
                        content = json.loads(line)
                    except ValueError as error:
                        raise ConfigError(f"{path}, line {number}: not JSON: {error}") from error
                    if not isinstance(content, dict):
                        raise ConfigError(
                            f"{path}, line {number}: an object with 'prompt' is needed, not {content!r:.60}"
                        )
                    yield number, content
        case suffix:
            raise ConfigError(f"cannot read prompts from {suffix!r}; choose .txt, .csv or .jsonl")


def typed(cell: str) -> object:
    """A cell of a table as the value that it spells: numbers, true, false, otherwise text."""
    try:
        value = json.loads(cell)
    except ValueError:
        return cell
    return value if isinstance(value, int | float | bool) else cell


@dataclass(frozen=True)
class Worker:
    """How a process that makes rows is started; a row goes in as a line, its result comes back as one."""

    out: Path
    model: str | None
    text_encoder: str | None
    device: str

    def command(self) -> list[str]:
        """Its command line."""
        given = json.dumps(
            {"out": str(self.out), "model": self.model, "text_encoder": self.text_encoder, "device": self.device}
        )
        return [sys.executable, "-m", "scaledreamer.batch_worker", given]


class Hand:
    """One worker process, started again after it died."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.process: subprocess.Popen[str] | None = None

    def make(self, row: Row) -> dict[str, Any]:
        """The result of a row; a worker that dies fails its row and the next one gets a new worker."""
        if self.process is None or self.process.poll() is not None:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            self.process = subprocess.Popen(
                self.worker.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        process = self.process
        assert process.stdin and process.stdout
        try:
            process.stdin.write(row.model_dump_json() + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self.close()
            code = process.returncode
            return failure(row, f"the worker process ended with {signal_name(code)} while it made this asset")
        result: dict[str, Any] = json.loads(answer)
        return result

    def close(self) -> None:
        """End of the work: the worker ends when its input does."""
        if self.process is not None:
            self.process.communicate()
            self.process = None


def signal_name(code: int) -> str:
    """A process's end in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def failure(row: Row, reason: str) -> dict[str, Any]:
    """The result of a row without an asset."""
    return {"row": row.number, "name": row.name, "prompt": row.prompt, "status": "failed", "error": reason}


def run_batch(rows: list[Row], worker: Worker, jobs: int, told: Callable[[int, Summary], None]) -> Summary:
    """Make every row that is not done; `told` hears how many are. OSError when the disk is full: run it again later."""
    out = worker.out
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(".*.partial"):
        shutil.rmtree(left, ignore_errors=True)
    summary = Summary(len(rows))
    results = {row.number: result for row in rows if (result := finished(out, row)) is not None}
    summary.done_before = len(results)
    waiting = [row for row in rows if row.number not in results]
    hands = [Hand(worker) for _ in range(max(1, min(jobs, len(waiting))))]
    free = list(hands)
    lock = threading.Lock()

    def make(row: Row) -> dict[str, Any]:
        with lock:
            hand = free.pop()
        began = time.monotonic()
        try:
            result = hand.make(row)
        finally:
            with lock:
                free.append(hand)
        seconds = {"row": row.number, "seconds": round(time.monotonic() - began, 3), **result.pop("timings", {})}
        with lock:
            append(out / "log.jsonl", seconds)
            append(out / "results.jsonl", result)
        return result

    with ThreadPoolExecutor(len(hands)) as pool:
        for done in as_completed([pool.submit(make, row) for row in waiting]):
            result = done.result()
            results[result["row"]] = result
            if result["status"] == "failed":
                summary.failed.append(f"{result['name']}: {result['error']}")
            else:
                summary.made += 1
            told(len(results), summary)
            if result.get("fatal"):
                pool.shutdown(wait=False, cancel_futures=True)
                raise OSError(f"{result['error']}; nothing that was made is lost: run the same command again")
    for hand in hands:
        hand.close()
    with atomic_path(out / "results.jsonl") as partial:
        partial.write_text("".join(json.dumps(results[row.number]) + "\n" for row in rows))
    return summary


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line, on the disk before it counts."""
    file: IO[str]
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def finished(out: Path, row: Row) -> dict[str, Any] | None:
    """The result of a row whose folder is there, made for the same request; one of another request is refused."""
    path = out / row.name / "request.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    if content["request"] != row.model_dump(mode="json"):
        raise ConfigError(
            f"{out / row.name} holds an asset of another request ({content['request']['prompt']!r}); "
            "choose another folder with -o, or remove it"
        )
    result: dict[str, Any] = content["result"]
    return result
