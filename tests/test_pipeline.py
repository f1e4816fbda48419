"""TextTo3D and the command line with a tiny generator."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from scaledreamer import Mesh, TextTo3D, load_generator
from scaledreamer.errors import ConfigError, EmptySurfaceError, ModelFileError, PromptError
from scaledreamer.export.presets import AssetSettings
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.generators.triplane_transformer import (
    SummedPlanesConfig,
    TriplaneTransformer,
    TriplaneTransformerConfig,
)
from scaledreamer.model.library import save_generator

CLI = [sys.executable, "-c", "from scaledreamer.cli import main; main()"]


def tiny(sphere_bias: float = 0.5) -> TriplaneTransformer:
    torch.manual_seed(0)
    config = TriplaneTransformerConfig(
        width=32, text_width=384, layers=1, heads=2, low_res=2, plane_channels=8, upsample=(8,), film=True,
        decoder=SummedPlanesConfig(hidden=8), radius=1.0, sphere_bias=sphere_bias, color="sigmoid",
    )  # fmt: skip
    generator = TriplaneTransformer(config)
    torch.nn.init.normal_(generator.decoder.out.weight, std=0.3)
    return generator


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_generator(tiny(), path, {"corpus": "none"})
    return path


@pytest.fixture(scope="module")
def pipe(model: Path) -> TextTo3D:
    return TextTo3D.load(model)


def test_a_prompt_becomes_a_closed_coloured_mesh(pipe: TextTo3D, tmp_path: Path) -> None:
    mesh = pipe("a red barrel", resolution=32)
    assert isinstance(mesh, Mesh)
    assert mesh.vertices.dtype == mesh.colors.dtype == np.float32 and mesh.faces.dtype == np.int64
    assert mesh.colors.min() >= 0 and mesh.colors.max() <= 1
    mesh.write(tmp_path / "barrel.glb")
    read = trimesh.load(tmp_path / "barrel.glb", force="mesh")
    read.merge_vertices(merge_norm=True, merge_tex=True)
    assert read.is_watertight and read.volume > 0


def test_the_same_prompt_gives_the_same_mesh_alone_and_in_a_batch(pipe: TextTo3D) -> None:
    alone, again = pipe("a red barrel", resolution=32), pipe("a red barrel", resolution=32)
    assert np.array_equal(alone.vertices, again.vertices) and np.array_equal(alone.colors, again.colors)
    fields = pipe.fields(["a green chair", "a red barrel"])
    assert len(fields) == 2
    assert np.allclose(pipe.mesh(fields[1], 32).vertices, alone.vertices, atol=1e-4)


def test_blending_goes_from_one_prompt_to_the_other(pipe: TextTo3D) -> None:
    points = torch.rand(1, 200, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    a, b = (pipe.fields([prompt]).sdf(points) for prompt in ("a red barrel", "a green chair"))
    at = {weight: pipe.blend("a red barrel", "a green chair", weight).sdf(points) for weight in (0.0, 0.5, 1.0)}
    assert torch.allclose(at[0.0], a, atol=1e-5) and torch.allclose(at[1.0], b, atol=1e-5)
    assert float((at[0.5] - a).abs().mean()) > 0 and float((at[0.5] - b).abs().mean()) > 0


@pytest.mark.parametrize("weight", [-0.01, 1.5, float("nan")])
def test_a_blend_beyond_its_ends_is_refused(pipe: TextTo3D, weight: float) -> None:
    with pytest.raises(ConfigError, match=f"weight {weight}; give one from 0"):
        pipe.blend("a red barrel", "a green chair", weight)


def test_a_picture_has_a_transparent_ground(pipe: TextTo3D) -> None:
    picture = np.asarray(pipe.picture(pipe.fields(["a red barrel"]), pixels=48))
    assert picture.shape == (48, 48, 4)
    assert picture[0, 0, 3] == 0 and picture[24, 24, 3] == 255


def test_bad_prompts_and_long_ones_are_told(pipe: TextTo3D) -> None:
    with pytest.raises(PromptError, match="empty"):
        pipe("  ")
    assert pipe.warnings("a red barrel") == []
    assert "last 10 tokens" in pipe.warnings("red " * 40)[0]


def test_a_model_with_a_vocabulary_says_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "props.safetensors"
    save_generator(tiny(), path, {"vocabulary": {"nouns": ["barrel", "keg"], "words": ["blue", "wood"]}})
    pipe = TextTo3D.load(path)
    assert pipe.warnings("a keg made of wood, painted blue") == []
    (told,) = pipe.asset("a quarterly tax filing", AssetSettings(resolution=32, lods=0, texture=0)).report.warnings
    assert re.search(r"props may not know what 'a quarterly tax filing' asks for \(confidence 0\.\d\d\)", told)
    assert "nearest that it knows is '" in told


def test_a_field_without_a_surface_is_an_error(tmp_path: Path) -> None:
    generator = tiny(sphere_bias=1e-3)
    torch.nn.init.zeros_(generator.decoder.out.weight)
    torch.nn.init.constant_(generator.decoder.out.bias, 1.0)
    save_generator(generator, tmp_path / "empty.safetensors", {})
    with pytest.raises(EmptySurfaceError):
        TextTo3D.load(tmp_path / "empty.safetensors")("a red barrel", resolution=16)


def test_a_model_that_wants_another_encoder_is_refused(tmp_path: Path) -> None:
    save_generator(tiny(), tmp_path / "clip.safetensors", {}, text_encoder="clip")
    with pytest.raises(ModelFileError, match="'clip'"):
        TextTo3D.load(tmp_path / "clip.safetensors")


def test_a_seed_is_for_stochastic_models_alone(pipe: TextTo3D) -> None:
    with pytest.raises(ConfigError, match="cannot use seed 3: 'tiny' is deterministic; leave the seed out"):
        pipe("a red barrel", resolution=16, seed=3)
    with pytest.raises(ConfigError, match="seed 0"):
        pipe.blend("a red barrel", "a green chair", 0.5, seed=0)


def test_in_other_words_is_the_mean_of_what_the_wordings_bring(pipe: TextTo3D) -> None:
    planes = pipe.fields(["an axe", "axe", "the axe", "a 3d model of an axe", "an axe, game asset", "a low poly axe"])
    assert isinstance(planes, TriplaneField)
    found = pipe.in_other_words(" an axe")
    assert isinstance(found, TriplaneField)
    assert torch.allclose(found.planes, planes.planes.mean(0, keepdim=True), atol=1e-6)
    with pytest.raises(PromptError, match="empty"):
        pipe.in_other_words(" ")


def test_public_names_load_at_first_use(model: Path) -> None:
    assert load_generator(model).config.width == 32
    code = "import sys, scaledreamer; assert 'torch' not in sys.modules; scaledreamer.nothing"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "no attribute 'nothing'" in result.stderr


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *map(str, arguments)], capture_output=True, text=True)


def test_generate_writes_every_format_and_reports_as_json(model: Path, tmp_path: Path) -> None:
    wanted = [tmp_path / f"it.{suffix}" for suffix in ("glb", "gltf", "obj", "ply", "stl", "png")]
    outs = [part for path in wanted for part in ("-o", path)]
    result = run("generate", "a red barrel", *outs, "--model", model, "--resolution", 32, "--json")
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    beside = [tmp_path / name for name in ("it.bin", "it.mtl", "it_color.png")]
    assert facts["faces"] > 100 and {Path(name) for name in facts["files"]} == {*wanted, *beside}
    assert all(path.stat().st_size > 80 for path in (*wanted, *beside))
    assert "map_Kd it_color.png" in (tmp_path / "it.mtl").read_text()
    with Image.open(tmp_path / "it_color.png") as texture, Image.open(tmp_path / "it.png") as picture:
        assert (texture.mode, picture.mode) == ("RGB", "RGBA"), "the picture does not take the texture's place"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["generate", "a mug", "-o", "mug.fbx"], "cannot write '.fbx'; choose one of"),
        (
            ["generate", "a mug", "-o", "mug.glb", "--resolution", "9"],
            "resolution: Input should be greater than or equal to 32 (got 9)",
        ),
        (["generate", "a mug", "-o", "mug.glb", "--model", "castle"], "no model named 'castle'"),
        (["generate", "a mug", "-o", "mug.glb", "--seed", "1"], "cannot use seed 1: 'props' is deterministic"),
        (["generate", "a mug", "-o", "mug.glb", "--text-encoder", "sd"], "reads prompts with 'minilm', which is built"),
    ],
)
def test_errors_are_one_line_and_exit_code_two(arguments: list[str], complaint: str, tmp_path: Path) -> None:
    result = subprocess.run([*CLI, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2
    assert complaint in result.stderr and "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_doctor_names_what_is_here_and_what_is_not() -> None:
    result = run("doctor", "--json")
    facts = json.loads(result.stdout)
    assert facts["models"]["text encoder minilm"] == "present, sha256 verified"
    assert facts["versions"]["torch"].startswith("2.")
    assert "never run on this kind of machine" in facts
