"""`scaledreamer refine`: its recipe, and the command with tiny models."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from scaledreamer.cli_refine import read_recipe
from scaledreamer.errors import ConfigError
from scaledreamer.export.finish import finish_field
from scaledreamer.export.presets import asset_settings
from scaledreamer.model.fields.files import load_field, read_note
from scaledreamer.model.generators import build_generator
from scaledreamer.model.library import save_generator
from scaledreamer.training.config import load_preset
from scaledreamer.training.priors.props import save_prior
from scaledreamer.training.priors.uvit import MultiViewUViT, UViTConfig
from tests.commands import scaledreamer
from tests.training.priors import tiny
from tests.training.test_refine import GENERATORS


class TestRecipe:
    def test_a_recipe_is_a_preset_at_its_end(self) -> None:
        overrides = ["refine.optimizer.lr=1e-4", "prior.path=mine"]
        prior, refined = read_recipe("props-refine", overrides, steps=20, seed=5)
        assert prior.path == "mine" and (refined.steps, refined.optimizer.lr, refined.seed) == (20, 1e-4, 5)
        assert (
            refined.at == load_preset("props-refine", []).loop.steps
            and refined.distill.sharpness.at(refined.at, refined.at) == 300
        )

    @pytest.mark.parametrize(
        ("recipe", "overrides", "message"),
        [
            ("props-prior", [], "trains a prior; choose one that distils"),
            ("no-such", [], "unknown preset 'no-such'"),
            ("props-triplane", ["refine.patiense=3"], "refine.patiense"),
            ("props-triplane", ["refine.check_every=0"], "greater than 0"),
            ("props-triplane", ["distill.tims.t_min=0.5"], "tims"),
        ],
    )
    def test_what_is_wrong_is_named(self, recipe: str, overrides: list[str], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            read_recipe(recipe, overrides)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A generator and a prior of the props world that read MiniLM, and a generator and a prior that read CLIP."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    files = {"sd": tiny.write_sd(folder / "sd")}
    shapes = {"triplane": ("minilm", 384), "voxel": (f"clip:{files['sd']}", tiny.WIDTH)}
    for kind, (encoder, width) in shapes.items():
        generator = build_generator(GENERATORS[kind].model_copy(update={"text_width": width}))
        files[kind] = folder / f"{kind}.safetensors"
        save_generator(generator, files[kind], {"licence": "Apache-2.0"}, encoder)
    files["prior"] = folder / "prior.safetensors"
    save_prior(MultiViewUViT(UViTConfig(pixels=16, stem=8, width=24, depth=2, heads=2)), files["prior"], {})
    return files


class TestCommand:
    SMALL = (
        "--set", "distill.nodes=8", "--set", "distill.renderer.samples=6", "--set", "distill.pixels=16",
        "--set", "refine.check_every=2", "--set", "refine.judge.sets=1", "--resolution", 32, "--texture", 0,
    )  # fmt: skip

    def test_it_writes_what_generate_writes_and_keeps_the_field(self, files: dict[str, Path], tmp_path: Path) -> None:
        kept = tmp_path / "kept.safetensors"
        ended = scaledreamer(
            "refine", "a red mug", "-o", tmp_path / "mug.glb", "-o", tmp_path / "mug.png", "--steps", 4, "--json",
            "--keep", kept, "--model", files["triplane"], "--set", f"prior.path={files['prior']}", *self.SMALL,
        )  # fmt: skip
        assert ended.code == 0, ended.err
        told = json.loads(ended.out)
        names = ["mug.glb", "mug.png", "kept.safetensors", "mug-refine.png"]
        assert [Path(name).name for name in told["files"]] == names and all(Path(n).is_file() for n in told["files"])
        refined = told["refined"]
        assert refined["steps"] == 4 and refined["score"] <= refined["score_before"] and told["faces"] > 100
        with Image.open(tmp_path / "mug-refine.png") as picture:
            assert picture.size == (4 * 96, 4 * 96), "first, in other words, step 2, step 4"
        note = read_note(kept)
        assert note["prompt"] == "a red mug" and note["refined"] == refined and note["licence"] == "Apache-2.0"
        asset = finish_field(load_field(kept), asset_settings("raw", resolution=32), "a red mug", note["model"])
        assert len(asset.levels[0].faces) > 100
        again = scaledreamer(
            "refine", "a red mug", "-o", tmp_path / "more.obj", "--steps", 2, "--start", kept, "--no-previews",
            "--model", files["triplane"], "--set", f"prior.path={files['prior']}", *self.SMALL,
        )  # fmt: skip
        assert again.code == 0 and "wrote" in again.out and not (tmp_path / "more-refine.png").exists(), again.err

    def test_stable_diffusion_refines_voxels(self, files: dict[str, Path], tmp_path: Path) -> None:
        ended = scaledreamer(
            "refine", "a mug", "-o", tmp_path / "mug", "--steps", 2, "--json", "--recipe", "props-sd-triplane",
            "--set", f"prior.path={files['sd']}", "--model", files["voxel"], "--text-encoder", files["sd"], *self.SMALL,
        )  # fmt: skip
        assert ended.code == 0, ended.err
        told = json.loads(ended.out)
        assert told["refined"]["recipe"] == "props-sd-triplane" and (tmp_path / "mug" / "manifest.json").is_file()
        assert (tmp_path / "mug-refine.png").is_file()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["-o", "mug.xyz"], "cannot write '.xyz'"),
            (["-o", "mug.glb", "--keep", "mug.pt"], "name a .safetensors file"),
            (["-o", "mug.glb", "--recipe", "props-prior"], "choose one that distils"),
            (["-o", "mug.glb", "--set", "prior.pth=x"], "prior.props.pth"),
            (["-o", "mug.glb", "--set", "lodz=2"], "lodz"),
            (["-o", "mug.glb", "--set", "lods"], "write key=value"),
        ],
    )
    def test_what_is_wrong_is_one_line_before_any_work(self, arguments: list[str], message: str) -> None:
        ended = scaledreamer("refine", "a mug", *arguments)
        assert ended.code == 2 and message in ended.err and ended.err.count("\n") == 1
