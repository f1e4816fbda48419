"""run.json: what a run is and on what it ran, enough to begin it again from its folder alone."""

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from scaledreamer.errors import ConfigError, ModelFileError
from scaledreamer.files import atomic_path

RECORD = "run.json"
PACKAGES = ("scaledreamer", "torch", "numpy", "transformers", "diffusers", "safetensors")


def begin(folder: Path, config: dict[str, Any], examples_a_step: int, command: str, step: int, processes: int) -> None:
    """Write run.json, or add to it how the run goes on from `step`. Raises ConfigError where the folder takes no file.

    config, seed         as resolved: `--resume` begins with them where no checkpoint was written yet
    examples_a_step      prompts or view sets, of all processes
    starts               of each: when (UTC), command, step, processes, device, versions, git revision
    """
    starts = read(folder)["starts"] if step and (folder / RECORD).exists() else []
    start = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "command": command, "step": step,
        "processes": processes, "device": device(), "system": platform.platform(),
        "python": platform.python_version(), "packages": versions(), "git": revision(),
    }  # fmt: skip
    record = {
        "config": config, "seed": config["loop"]["seed"], "examples_a_step": examples_a_step,
        "starts": [*starts, start],
    }  # fmt: skip
    try:
        with atomic_path(folder / RECORD) as partial:
            partial.write_text(json.dumps(record, indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"{folder} takes no files ({error}); make room or choose another --out") from error


def read(folder: Path) -> dict[str, Any]:
    """What run.json says; ModelFileError where it is not there or not ours."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
        record["config"], record["starts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{folder / RECORD} is no record of a run ({error})") from error
    return record


def device() -> str:
    """What the first process computes on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU {platform.machine()}"


def versions() -> dict[str, str]:
    """Of the packages that decide about numbers, those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def revision() -> str | None:
    """The git revision of this source, with a + where files of it differ; None where it is no clone."""
    source = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(source.parent), *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", source.name)  # or it is a package inside somebody else's clone
        changed = git("status", "--porcelain", "--untracked-files=no", "--", str(source.parents[1]))
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
