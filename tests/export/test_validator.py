"""The Khronos glTF validator has nothing to say against our files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scaledreamer.export import extract_mesh
from scaledreamer.export.draco import encode_draco_glb
from scaledreamer.export.gltf import Part
from tests.export.fields import FIELDS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("validate.mjs")


def node() -> str:
    """The Node program of the environment, or of the system."""
    found = shutil.which("node", path=str(Path(sys.prefix) / "bin")) or shutil.which("node")
    assert found, "there is no `node` on PATH or in the environment; run: make setup"
    return found


def validated(path: Path) -> dict[str, Any]:
    """The issues that the validator finds."""
    assert (ROOT / "node_modules/gltf-validator").is_dir(), "node_modules has no gltf-validator; run: make setup"
    answer = subprocess.run([node(), SCRIPT, path], capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    issues: dict[str, Any] = json.loads(answer.stdout)["issues"]
    return issues


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
@pytest.mark.parametrize("name", ["an off-centre ball", "a box that reaches a corner of the cube", "waves"])
def test_the_khronos_validator_finds_no_error_and_no_warning(name: str, suffix: str, tmp_path: Path) -> None:
    mesh = extract_mesh(FIELDS[name], resolution=24)
    (*_, path) = mesh.write(tmp_path / f"some prop{suffix}", {"prompt": name})
    issues = validated(path)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]


@pytest.mark.slow
def test_of_a_compressed_glb_it_only_says_that_it_cannot_look_inside(tmp_path: Path) -> None:
    path = tmp_path / "a.glb"
    path.write_bytes(encode_draco_glb([Part("a", extract_mesh(FIELDS["waves"], resolution=24))], "a", {}))
    issues = validated(path)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]
    # The view with the triangles is named by the extension alone.
    assert {message["code"] for message in issues["messages"]} == {"UNSUPPORTED_EXTENSION", "UNUSED_OBJECT"}
