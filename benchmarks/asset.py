"""What a finished asset costs: prompt to GLB with texture, levels of detail, hull and validation, stage by stage.

    python benchmarks/asset.py                          # the preset prop, a prompt of each kind, two rounds
    python benchmarks/asset.py --preset hero --rounds 1

One process with the model loaded; the package as `scaledreamer generate -o FOLDER/` writes it. The first prompt is not
counted: it imports. Wall seconds, for the unwrap runs in a process beside this one; the validator is Khronos's, and its
own process is counted as well. At the end what a plain GLB at resolution 128 costs on one core, the text's encoding
included, in CPU-seconds.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch

from scaledreamer import TextTo3D
from scaledreamer.export.package import extras_of, write_package
from scaledreamer.export.presets import AssetSettings, asset_settings

PROMPTS = (
    "a red wooden barrel", "an orange treasure chest", "a tall green pine tree", "a small blue potion bottle",
    "a red mushroom with white dots", "a green chair", "a wide brown table", "a small yellow house", "a purple mug",
    "a blue rocket",
)  # fmt: skip
NOUNS = ("barrel", "oak tree", "sword", "chair", "house", "mug", "sailboat", "donut", "lantern", "cactus")
VALIDATOR = Path(__file__).parents[1] / "tests" / "export" / "validate.mjs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="prop")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    settings, pipe = asset_settings(given.preset), TextTo3D.load()
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        once(pipe, PROMPTS[0], settings, Path(scratch) / "first")
        for number, prompt in enumerate(PROMPTS * given.rounds):
            for stage, spent in once(pipe, prompt, settings, Path(scratch) / str(number)).items():
                seconds[stage].append(spent)
    print(f"preset {given.preset}, {len(seconds['all'])} assets, wall seconds")
    for stage, each in sorted(seconds.items(), key=lambda item: statistics.median(item[1])):
        print(f"{stage:>12}  median {statistics.median(each):5.2f}  worst {max(each):5.2f}")
    spent = plain(pipe)
    print(f"plain GLB at 128, one thread, CPU-seconds: median {statistics.median(spent):.3f}, worst {max(spent):.3f}")


def plain(pipe: TextTo3D) -> list[float]:
    """CPU-seconds from prompt to the file of a mesh without texture, each prompt asked for the first time."""
    torch.set_num_threads(1)
    spent = []
    with tempfile.TemporaryDirectory() as scratch:
        for color, noun in itertools.product(("white", "black", "pink"), NOUNS):
            began = time.process_time()
            pipe(f"a {color} {noun}", resolution=128).write(Path(scratch) / "plain.glb")
            spent.append(time.process_time() - began)
    return spent[1:]


def once(pipe: TextTo3D, prompt: str, settings: AssetSettings, folder: Path) -> dict[str, float]:
    """Seconds of every stage, up to the files and with the validator; raises where it is not what is claimed."""
    began = time.perf_counter()
    asset = pipe.asset(prompt, settings)
    finished = time.perf_counter()
    manifest = write_package(asset, folder, [".glb"], extras_of(asset, pipe.card.get("licence")))
    written = time.perf_counter()
    files = [str(folder / file.name) for file in manifest.files if file.name.endswith(".glb")]
    for file in files:
        issues = json.loads(subprocess.run(["node", VALIDATOR, file], capture_output=True, check=True).stdout)["issues"]
        assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), (file, issues["messages"])
    validated = time.perf_counter()
    assert asset.levels[0].texture is not None and len(asset.levels) > 1 and asset.collision
    assert not asset.report.degraded
    return {**asset.seconds, "write": written - finished, "validate": validated - written,
            "prompt to file": written - began, "all": validated - began}  # fmt: skip


if __name__ == "__main__":
    main()
