"""The examples of docs/assets.md, run in the programs they are for."""

import json
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.commands import scaledreamer

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[1] / "examples"


def needed(program: str) -> str:
    """Where a program is; without it the test fails, for a test that is left out proves nothing."""
    found = shutil.which(program)
    assert found, f"{program} is not installed; on Debian: apt-get install --no-install-recommends {program}"
    return found


def made(folder: Path, target: str) -> Path:
    """Three assets for an engine."""
    prompts = folder / "prompts.csv"
    prompts.write_text("prompt,size\na red chair,\na blue rocket,2.5\na yellow mug,\n")
    options = ["--target", target, "--faces", 1500, "--texture", 256, "--set", "lods=1", "--jobs", 2]
    assert scaledreamer("batch", prompts, "-o", folder / "assets", *options).code == 0
    return folder / "assets"


def test_blender_finds_sizes_pivots_names_and_extras_as_the_manifests_say(tmp_path: Path) -> None:
    batch = made(tmp_path, "blender")
    command = [needed("blender"), "--background", "--factory-startup", "--python-exit-code", "3"]
    command += ["--addons", "io_scene_gltf2", "--python", str(EXAMPLES / "blender_import.py")]
    ended = subprocess.run(
        [*command, "--", str(batch), "--render", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "3 assets imported, 0 with faults" in ended.stdout
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "a-blue-rocket.png",
        "a-red-chair.png",
        "a-yellow-mug.png",
    ]


def test_godot_imports_meshes_materials_and_convex_shapes(tmp_path: Path) -> None:
    batch = made(tmp_path, "godot")
    project = tmp_path / "project"
    shutil.copytree(EXAMPLES / "godot", project)
    for manifest in batch.glob("*/manifest.json"):
        shutil.copytree(manifest.parent, project / "assets" / manifest.parent.name)
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    editor = subprocess.Popen(
        [needed("godot3-server"), "--path", str(project), "--editor"], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:  # the editor imports what it finds, and stays
        ends = time.monotonic() + 240
        while len(list(project.glob(".import/*.scn"))) < len(list(project.glob("assets/*/*.glb"))):
            assert time.monotonic() < ends and editor.poll() is None, "the editor has not imported the assets"
            time.sleep(0.5)
    finally:
        editor.kill()
        editor.wait()
    ended = subprocess.run(
        [needed("godot3-server"), "--path", str(project), "-s", "check_assets.gd"], env=environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    lines = [line for line in ended.stdout.splitlines() if line.startswith("a-")]
    assert ended.returncode == 0 and len(lines) == 3, ended.stdout + ended.stderr
    (rocket,) = (line for line in lines if line.startswith("a-blue-rocket"))
    assert "meshes=1 materials=1 convex=1 height=2.5000 low=0.00000" in rocket


def test_a_pack_holds_what_its_index_says(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red mushroom\na green table\n")
    command = [sys.executable, str(EXAMPLES / "asset_pack.py"), str(prompts), "-o", str(tmp_path / "pack.zip")]
    subprocess.run(command, check=True, timeout=600)
    with zipfile.ZipFile(tmp_path / "pack.zip") as pack:
        index = json.loads(pack.read("index.json"))
        assert [asset["name"] for asset in index] == ["a-green-table", "a-red-mushroom"]
        assert "a-red-mushroom/a-red-mushroom.glb" in pack.namelist() and pack.testzip() is None
