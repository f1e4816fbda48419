"""Accelerators: builds are kept and checked, and whatever breaks gives eager back, said once."""

import importlib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scaledreamer.model import compile as compiling
from scaledreamer.model.accelerated import EXAMPLES, AcceleratedTriplanes, accelerate_pipeline
from scaledreamer.model.compile import (
    MAX_BATCH,
    Accelerated,
    Acceleration,
    AcceleratorWarning,
    accelerate,
    described,
    missing,
    warn_once,
)
from scaledreamer.model.fields.base import Field
from scaledreamer.model.generators.conv3d import Conv3D, Conv3DConfig
from scaledreamer.model.generators.triplane_transformer import (
    TriplaneTransformer,
)
from scaledreamer.model.text import MiniLM, TextEmbedding, TextEncoder
from scaledreamer.pipeline import TextTo3D
from tests.model.networks import PROPS, TINY, assert_same, clip, planes_network, text

COMPILER = """
import torch

builds = []

class Input:
    def __init__(self, **shapes):
        self.__dict__ = shapes

class dynamo:
    @staticmethod
    def compile(program, inputs, **settings):
        builds.append(inputs)
        {}
        return program

def save(program, path, **shapes):
    torch.export.save(program, path)
"""
WORKING = COMPILER.format("")
FAILING = COMPILER.format("raise Exception('no builder\\nfor this device')")
LYING = COMPILER.format(
    "program.state_dict.update({k: torch.nn.Parameter(v * 1.1, False) for k, v in program.state_dict.items()})"
)
BROKEN = "raise Exception('libnvinfer.so.10: cannot open shared object file')"

Install = Callable[[str], None]


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has seen no accelerator yet, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    missing.cache_clear()
    warn_once.cache_clear()
    yield
    missing.cache_clear()
    sys.modules.pop("torch_tensorrt", None)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a torch_tensorrt of this text on the path, for the CPU."""

    def put(text: str) -> None:
        package = tmp_path / "site" / "torch_tensorrt"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(text)
        monkeypatch.syspath_prepend(package.parent)
        monkeypatch.setattr(compiling, "TENSORRT_DEVICE", "cpu")

    return put


def builds() -> list[Any]:
    made: list[Any] = importlib.import_module("torch_tensorrt").builds
    return made


class TestEager:
    def test_eager_builds_nothing_and_imports_nothing(self, install: Install, tmp_path: Path) -> None:
        install(BROKEN)
        network = planes_network()
        made = accelerate(network, text(3), "eager", "generator")
        assert made.acceleration == Acceleration("generator", "eager", "eager", None)
        assert torch.equal(made(*text(2)), network(*text(2)))
        assert not (tmp_path / "cache").exists() and "torch_tensorrt" not in sys.modules

    def test_a_pipeline_is_eager_unless_told(self) -> None:
        torch.manual_seed(0)
        generator, encoder = TriplaneTransformer(TINY), Letters()
        same, acceleration = accelerate_pipeline(encoder, generator, "eager")
        assert same is generator and [part.used for part in acceleration] == ["eager", "eager"]


class TestBuilds:
    """With a torch_tensorrt that keeps the exported graph as it is: what is around it is real."""

    def test_a_build_is_used_kept_and_found_again(self, install: Install, tmp_path: Path) -> None:
        install(WORKING)
        network = planes_network()
        for _ in range(2):
            made = accelerate(network, text(3), "tensorrt", "generator", tmp_path / "builds")
            assert made.acceleration == Acceleration("generator", "tensorrt", "tensorrt", None)
            assert made.built is not None
            assert_same(made(*text(5)), network(*text(5)))
        assert len(builds()) == 1 and len([*(tmp_path / "builds").iterdir()]) == 1
        tokens, pooled = builds()[0]
        assert (tokens.min_shape, tokens.opt_shape, tokens.max_shape) == ((1, 5, 8), (3, 5, 8), (MAX_BATCH, 5, 8))
        assert (pooled.max_shape, pooled.dtype) == ((MAX_BATCH, 8), torch.float32)

    def test_other_weights_shapes_graphs_and_versions_are_other_builds(
        self, install: Install, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(WORKING)
        accelerate(planes_network(), text(3), "tensorrt", "generator")
        accelerate(planes_network(seed=1), text(3), "tensorrt", "generator")
        accelerate(planes_network(), (text(3)[0][:, :4], text(3)[1]), "tensorrt", "generator")
        accelerate(planes_network(PROPS), text(3), "tensorrt", "generator")
        assert len(builds()) == 4
        monkeypatch.setattr(compiling, "version", lambda name: "2.99")
        accelerate(planes_network(), text(3), "tensorrt", "generator")
        assert len(builds()) == 5 == len([*compiling.cache_folder().iterdir()])

    def test_another_process_gives_a_build_the_same_name(self) -> None:
        """It depends on nothing that a process draws, such as the seed of its hashes."""
        script = f"""
import torch
from scaledreamer.model.accelerated import PlanesNetwork
from scaledreamer.model.compile import exported, fingerprint
from scaledreamer.model.generators import TriplaneTransformer, TriplaneTransformerConfig

torch.manual_seed(0)
network = PlanesNetwork(TriplaneTransformer(TriplaneTransformerConfig.model_validate({TINY.model_dump()!r})))
example = torch.ones(2, 5, 8), torch.ones(2, 8)
name = fingerprint(exported(network, example), example, "tensorrt")
"""
        own: dict[str, Any] = {}
        exec(script, own)
        environment = os.environ | {"PYTHONHASHSEED": "1"}
        command = [sys.executable, "-c", f"{script}print(name)"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.stdout.strip() == own["name"], result.stderr

    def test_a_damaged_build_is_made_anew(self, install: Install) -> None:
        install(WORKING)
        accelerate(planes_network(), text(3), "tensorrt", "generator")
        (path,) = compiling.cache_folder().iterdir()
        path.write_bytes(path.read_bytes()[:1000])
        made = accelerate(planes_network(), text(3), "tensorrt", "generator")
        assert made.acceleration.used == "tensorrt" and len(builds()) == 2
        assert path.stat().st_size > 1000 and path.parent.stat().st_mode & 0o077 == 0

    def test_what_does_not_fit_the_build_runs_eager(self, install: Install) -> None:
        install(WORKING)
        network = planes_network()
        made = accelerate(network, text(3), "tensorrt", "generator")
        asked: list[int] = []
        made.built = lambda *tensors: asked.append(len(tensors[0]))
        longer = (torch.randn(2, 6, 8), torch.randn(2, 8))
        for given in (text(MAX_BATCH + 1), text(2, mask=True), longer):
            assert torch.equal(made(*given), network(*given))
        assert asked == [] and made.acceleration.used == "tensorrt"
        made(*text(MAX_BATCH))
        assert asked == [MAX_BATCH]

    def test_memory_in_another_order_is_brought_in_order(self) -> None:
        seen: list[bool] = []
        made = Accelerated(
            planes_network(), Acceleration("generator"), lambda *t: seen.extend(x.is_contiguous() for x in t), text(3)
        )
        made(text(3)[0].transpose(1, 2).contiguous().transpose(1, 2), text(3)[1])
        assert seen == [True, True]


def answers(field: Field) -> torch.Tensor:
    """Distance and colour at the same points of every scene."""
    points = torch.rand(1, 500, 3, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    sample = field.query(points.expand(len(field), -1, -1).to(field.device))
    return torch.cat([sample.sdf, sample.rgb], dim=-1)


class TestFallingBack:
    @pytest.mark.parametrize(
        ("package", "reason"),
        [
            (BROKEN, "cannot be imported: Exception: libnvinfer.so.10: cannot open shared object file"),
            (FAILING, "Exception: no builder for this device"),
            (LYING, r"ValueError: it differs from eager by [\d.]+ on 1 prompts, more than 0.001"),
        ],
        ids=["broken", "failing", "lying"],
    )
    def test_any_failure_gives_eager_back_and_says_why(self, package: str, reason: str, install: Install) -> None:
        install(package)
        network = planes_network()
        with pytest.warns(AcceleratorWarning, match=f"tensorrt is not used, eager is: .*{reason}"):
            made = accelerate(network, text(3), "tensorrt", "generator")
        assert (made.acceleration.asked, made.acceleration.used) == ("tensorrt", "eager")
        assert torch.equal(made(*text(2)), network(*text(2)))

    def test_a_broken_package_is_told_once_and_the_pipeline_makes_the_same_field(self, install: Install) -> None:
        install(BROKEN)
        eager = TextTo3D.load()
        with pytest.warns(AcceleratorWarning) as told:
            pipe, again = [TextTo3D.load(accelerator="tensorrt") for _ in range(2)]
        assert len(told) == 1
        prompts = ["a blue mug", "a red wooden barrel"]
        fields = [made.fields(prompts) for made in (eager, pipe, again)]
        assert all(torch.equal(answers(field), answers(fields[0])) for field in fields)
        assert [part.part for part in pipe.acceleration] == ["text encoder", "generator"]
        assert all(part.used == "eager" and "libnvinfer" in str(part.reason) for part in pipe.acceleration)

    def test_an_absent_package_is_named_with_the_way_to_get_it(self) -> None:
        with pytest.warns(AcceleratorWarning, match="torch_tensorrt is not installed; run: pip install"):
            made = accelerate(planes_network(), text(3), "tensorrt", "generator")
        assert made.acceleration.used == "eager"

    def test_tensorrt_is_not_tried_without_its_device(self, install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
        install(WORKING)
        monkeypatch.setattr(compiling, "TENSORRT_DEVICE", "cuda")
        with pytest.warns(AcceleratorWarning, match="TensorRT runs on cuda, the model on cpu"):
            accelerate(planes_network(), text(3), "tensorrt", "generator")
        assert builds() == []

    def test_no_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.warns(AcceleratorWarning, match="no C\\+\\+ compiler 'no-such-compiler'"):
            made = accelerate(planes_network(), text(3), "compile", "generator")
        assert made.acceleration.used == "eager"

    def test_a_build_that_breaks_later_is_given_up_with_the_right_answer(self, install: Install) -> None:
        install(WORKING)
        network = planes_network()
        made = accelerate(network, text(3), "tensorrt", "generator")

        def breaks(*tensors: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

        made.built = breaks
        with pytest.warns(AcceleratorWarning, match="out of memory"):
            assert torch.equal(made(*text(2)), network(*text(2)))
        assert made.acceleration.used == "eager" and made.built is None
        assert torch.equal(made(*text(2)), network(*text(2))), "and no second warning"

    def test_an_input_that_eager_refuses_too_is_not_the_build_s_fault(self, install: Install) -> None:
        install(WORKING)
        encoder = MiniLM()
        assert isinstance(encoder.network, nn.Module)
        made = accelerate(encoder.network, encoder.read(EXAMPLES), "tensorrt", "text encoder")
        ids, counted = encoder.read(["a mug"])
        with pytest.raises(IndexError):
            made(ids + 10**6, counted)
        assert made.acceleration.used == "tensorrt"

    def test_parts_without_a_compiled_form_say_so(self) -> None:
        generator = Conv3D(Conv3DConfig(text_width=8, noise_width=4, style_width=6, channels=(4,), voxel_channels=2))
        with pytest.warns(AcceleratorWarning) as told:
            same, acceleration = accelerate_pipeline(Letters(), generator, "compile")
        assert same is generator and len(told) == 2
        assert [part.reason for part in acceleration] == [
            "Letters has no compiled form", "Conv3D has no compiled form",
        ]  # fmt: skip


class TestPipeline:
    def test_an_accelerated_pipeline_makes_the_field_of_eager(self, install: Install) -> None:
        install(WORKING)
        pipe, eager = TextTo3D.load(accelerator="tensorrt"), TextTo3D.load()
        assert isinstance(pipe.generator, AcceleratedTriplanes) and pipe.generator.stochastic is False
        assert [part.used for part in pipe.acceleration] == ["tensorrt", "tensorrt"] and len(builds()) == 2
        for prompts in (["a blue mug"], ["a blue mug", "a small yellow lamp"]):
            found, expected = pipe.fields(prompts), eager.fields(prompts)
            assert type(found) is type(expected) and found.bound == expected.bound
            torch.testing.assert_close(answers(found), answers(expected), rtol=0, atol=1e-5)
        between, as_eager = (one.blend("a blue mug", "a small yellow lamp", 0.4) for one in (pipe, eager))
        torch.testing.assert_close(answers(between), answers(as_eager), rtol=0, atol=1e-4)
        assert len(pipe.fields(["a mug"] * (MAX_BATCH + 1))) == MAX_BATCH + 1


class TestDoctor:
    def test_doctor_says_what_each_would_do_with_a_broken_package_on_the_path(
        self, install: Install, tmp_path: Path
    ) -> None:
        install(BROKEN)
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "CXX": "no-such-compiler"}
        command = [sys.executable, "-c", "from scaledreamer.cli import main; main()", "doctor", "--json"]
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["accelerators"] == {
            "eager": "plain PyTorch, always there",
            "compile": "falls back to eager: there is no C++ compiler 'no-such-compiler'; install one",
            "tensorrt": "falls back to eager: torch_tensorrt is installed and cannot be imported: "
            "Exception: libnvinfer.so.10: cannot open shared object file",
        }

    def test_what_could_serve_says_where_builds_are_kept(
        self, install: Install, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        install(WORKING)
        monkeypatch.setenv("CXX", sys.executable)
        assert all("kept in $XDG_CACHE_HOME" in line for name, line in described("cpu").items() if name != "eager")


class Letters(TextEncoder):
    """An encoder that is no network."""

    @property
    def name(self) -> str:
        return "letters"

    def encode(self, prompts: list[str]) -> TextEmbedding:
        return TextEmbedding(torch.ones(len(prompts), 5, 8), torch.ones(len(prompts), 8))

    def overflow(self, prompt: str) -> int:
        return 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_compile_really_compiles(tmp_path: Path) -> None:
    """Minutes: the tiny CLIP, for any batch, in a file that another call loads at once."""
    if missing("compile", "cpu") is not None:
        pytest.skip("no C++ compiler")
    network = clip(tmp_path / "sd").network
    assert isinstance(network, nn.Module)
    example = clip(tmp_path / "sd").read(EXAMPLES)
    for _ in range(2):
        made = accelerate(network, example, "compile", "text encoder", tmp_path / "builds")
        assert made.acceleration == Acceleration("text encoder", "compile", "compile", None)
        with warnings.catch_warnings():
            for prompts in (1, 2, MAX_BATCH):
                given = example[0].repeat(MAX_BATCH, 1)[:prompts]
                assert_same(made(given), network(given), atol=1e-5)
    assert len([*(tmp_path / "builds").iterdir()]) == 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("accelerator", ["compile", "tensorrt"])
def test_on_a_gpu_the_default_model_is_built_and_agrees(accelerator: compiling.Accelerator) -> None:
    reason = missing(accelerator, "cuda")
    if reason is not None:
        pytest.skip(reason)
    pipe, eager = TextTo3D.load(device="cuda", accelerator=accelerator), TextTo3D.load(device="cuda")
    assert [part.used for part in pipe.acceleration] == [accelerator] * 2, pipe.acceleration
    prompts = ["a blue mug", "a red wooden barrel"]
    found, expected = pipe.fields(prompts), eager.fields(prompts)
    assert type(found) is type(expected)
    torch.testing.assert_close(answers(found), answers(expected), rtol=0, atol=compiling.TOLERANCE)
