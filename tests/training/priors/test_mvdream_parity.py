"""MVDream on diffusers' own U-Net equals the official network: keys, U-Net, autoencoder, text tower, camera."""

import gzip
import importlib.util
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from fixtures import PARITY, error, fixture, under
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from scaledreamer.errors import ModelFileError
from scaledreamer.model.cameras import Camera, orbit
from scaledreamer.model.pretrained import Source
from scaledreamer.model.text import TextEmbedding, TextEncoder
from scaledreamer.training.priors import mvdream_files as files
from scaledreamer.training.priors import mvdream_keys as keys
from scaledreamer.training.priors.autoencoder import Autoencoder
from scaledreamer.training.priors.base import Condition
from scaledreamer.training.priors.config import MVDreamConfig
from scaledreamer.training.priors.mvdream import MVDreamPrior, load_mvdream
from scaledreamer.training.priors.pose import pose
from scaledreamer.training.priors.process import scaled_linear
from scaledreamer.training.priors.unet import CameraUNet, call_unet
from tests.training.priors import tiny

HEAD_CHANNELS = 16  # of the recorded networks; 64 in the released ones
FULL_SIZE: dict[str, dict[str, list[int]]] = json.loads(
    gzip.decompress((PARITY / "mvdream" / "full_size_keys.json.gz").read_bytes())
)
PARAMETERS = {"sd-v2.1-base-4view": 867_572_164, "sd-v1.5-4view": 861_182_404}


def recorded() -> dict[str, Tensor]:
    """The official state dict; stored in fp16, exact in float32."""
    shards = [fixture(f"mvdream/checkpoint-{shard}-of-2")[0] for shard in (1, 2)]
    return {name: tensor.float() for shard in shards for name, tensor in shard.items()}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return recorded()


class NoText(TextEncoder):
    """The recorded cases bring their own context."""

    name = "none"

    def encode(self, prompts: list[str]) -> TextEmbedding:
        raise NotImplementedError

    def overflow(self, prompt: str) -> int:
        return 0


@pytest.fixture(scope="module")
def prior(weights: dict[str, Tensor]) -> MVDreamPrior:
    official = keys.part(keys.UNET, weights)
    unet = files.build(CameraUNet, files.unet_config(official, HEAD_CHANNELS), keys.unet(official), torch.float32)
    official = keys.part(keys.AUTOENCODER, weights)
    vae = files.build(AutoencoderKL, files.autoencoder_config(official), keys.autoencoder(official), torch.float32)
    return MVDreamPrior(unet, Autoencoder(vae, 8), NoText(), scaled_linear())


@pytest.mark.parametrize("case", ["views", "triplet", "mono", "camera_zeros"])
def test_the_unet_equals_the_official_one(prior: MVDreamPrior, case: str) -> None:
    found = under(f"{case}.", fixture("mvdream/unet_cases")[0])
    camera = None
    if "camera" in found:
        camera = Camera(found["camera"].unflatten(1, (4, 4)), torch.ones(len(found["camera"])))
        assert error(pose(camera), found["camera"]) < 1e-6, "a normalised camera stays as it is"
    assert prior.views == int(found["num_frames"]) or camera is None
    eps = prior.eps(found["latents"], found["timesteps"], Condition(found["context"]), camera)
    assert error(eps, found["output"]) < 1e-4


def test_the_recorded_triplet_is_what_asd_asks(prior: MVDreamPrior) -> None:
    """Text at t, nothing at t, text at the later t, in one batch of whole view sets, from cameras as they come."""
    from scaledreamer.training.distillation.base import predict

    found = under("triplet.", fixture("mvdream/unet_cases")[0])
    t, context = found["timesteps"][::4], found["context"]
    asked = [(t[group : group + 1], Condition(context[4 * group : 4 * group + 4])) for group in range(3)]
    camera = Camera(found["c2w"], torch.ones(4))
    answers = predict(prior, found["x0"], found["noise"], asked, camera)
    assert error(torch.cat(answers), found["output"]) < 1e-4


def test_no_camera_is_not_a_camera_of_zeros(prior: MVDreamPrior) -> None:
    found = under("camera_zeros.", fixture("mvdream/unet_cases")[0])
    without = call_unet(prior.network, found["latents"], found["timesteps"], found["context"], None, {"views": 4})
    assert error(without, found["output"]) > 1e-3


def test_the_autoencoder_equals_the_official_one(prior: MVDreamPrior) -> None:
    cases, _ = fixture("mvdream/vae_cases")
    found, vae = under("encode.", cases), prior.autoencoder.vae
    image = found["image"].requires_grad_()
    mean, std = prior.autoencoder.posterior((image + 1) / 2)
    assert error(mean, found["mean"]) < 2e-5 and error(std, found["std"]) < 2e-5
    latents = prior.autoencoder.scale * (mean + std * found["noise"])
    assert error(latents, found["latents"]) < 2e-5
    (gradient,) = torch.autograd.grad((latents * found["cotangent"]).sum(), image)
    assert error(gradient, found["image_grad"]) < 2e-5
    decoded = vae.decode(cases["decode.latents"] / prior.autoencoder.scale).sample
    assert error(decoded, cases["decode.image"]) < 2e-5


def test_the_text_tower_equals_the_official_penultimate_layer(weights: dict[str, Tensor]) -> None:
    cases, _ = fixture("mvdream/text_cases")
    model = files.text_encoder(keys.part(keys.TEXT, weights), HEAD_CHANNELS)
    with torch.no_grad():
        assert error(model(cases["input_ids"]).last_hidden_state, cases["penultimate"]) < 2e-5


def test_poses_equal_the_official_normalised_cameras() -> None:
    cases, _ = fixture("mvdream/camera_cases")
    c2w = cases["normalize.c2w"]
    before = c2w.clone()
    assert error(pose(Camera(c2w, torch.ones(len(c2w)))), cases["normalize.out"]) < 1e-6
    assert torch.equal(c2w, before), "the caller's cameras are not touched"


@pytest.mark.parametrize("index", [0, 1, 3, 4])  # 2 was recorded in y-up axes, which this project does not use
def test_mvdream_s_own_orbit_is_ours_a_quarter_turn_on(index: int) -> None:
    cases, _ = fixture("mvdream/camera_cases")
    count, elevation, start, span, _z_up = cases[f"get_camera.{index}.args"].tolist()
    azimuth = torch.deg2rad(start - 90 + span / count * torch.arange(count))
    camera = orbit(
        torch.full_like(azimuth, math.radians(elevation)), azimuth, torch.ones(int(count)), torch.ones(int(count))
    )
    assert error(pose(camera), cases[f"get_camera.{index}.out"]) < 1e-6


def shapes(name: str) -> dict[str, Tensor]:
    """A released state dict without its data."""
    return {key: torch.empty(shape, device="meta") for key, shape in FULL_SIZE[name].items()}


def same(found: dict[str, Tensor], module: torch.nn.Module) -> None:
    """Not one key more or less, and no other shape."""
    assert {key: tensor.shape for key, tensor in found.items()} == {
        key: tensor.shape for key, tensor in module.state_dict().items()
    }


@pytest.mark.parametrize("name", sorted(FULL_SIZE))
def test_every_released_key_finds_its_place(name: str) -> None:
    weights = shapes(name)
    parts = {prefix: keys.part(prefix, weights) for prefix in (keys.UNET, keys.AUTOENCODER, keys.TEXT)}
    with torch.device("meta"):
        unet = CameraUNet(**files.unet_config(parts[keys.UNET]))
        same(keys.unet(parts[keys.UNET]), unet)
        same(
            keys.autoencoder(parts[keys.AUTOENCODER]),
            AutoencoderKL(**files.autoencoder_config(parts[keys.AUTOENCODER])),
        )
        if parts[keys.TEXT]:
            tower = CLIPTextModel(CLIPTextConfig(**files.text_config(parts[keys.TEXT])))
            same(keys.text(parts[keys.TEXT]), tower)
            assert sum(p.numel() for p in tower.parameters()) == 340_387_840
    assert sum(p.numel() for p in unet.parameters()) == PARAMETERS[name]
    left = keys.ignored(weights)
    assert sum("." not in key for key in left) == 12, "the schedule's tables"
    last_layer = [key for key in left if key.startswith(f"{keys.TEXT}transformer.resblocks.23.")]
    assert len(left) - 12 == (len(last_layer) + 2 if parts[keys.TEXT] else 0)
    assert unet.config.sample_size * 8 == 256


def test_heads_follow_the_released_layouts() -> None:
    by_width, fixed = (
        files.unet_config(keys.part(keys.UNET, shapes(name))) for name in sorted(FULL_SIZE, reverse=True)
    )
    assert by_width["attention_head_dim"] == (5, 10, 20, 20) and by_width["use_linear_projection"]
    assert fixed["attention_head_dim"] == 8 and not fixed["use_linear_projection"]
    assert (by_width["cross_attention_dim"], fixed["cross_attention_dim"]) == (1024, 768)


def test_a_released_file_converts_to_a_folder_that_loads_and_judges_the_same(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(weights, tmp_path / "official.pt")
    left = files.convert_mvdream(tmp_path / "official.pt", tmp_path / "folder", HEAD_CHANNELS)
    assert {"betas", f"{keys.TEXT}text_projection", f"{keys.TEXT}logit_scale"} < set(left)
    assert len([key for key in left if "resblocks.3." in key]) == len(left) - 14
    tiny.write_text(tmp_path / "text")
    prior = load_mvdream(MVDreamConfig(path=str(tmp_path / "folder"), text=str(tmp_path / "text")))
    assert prior.autoencoder.pixels == 64 and prior.prediction == "eps"
    found = under("mono.", fixture("mvdream/unet_cases")[0])
    eps = prior.eps(found["latents"], found["timesteps"], Condition(found["context"]))
    assert error(eps, found["output"]) < 1e-4
    with pytest.raises(ModelFileError, match="holds something already"):
        files.convert_mvdream(tmp_path / "official.pt", tmp_path / "folder", HEAD_CHANNELS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "official.pt", "text"], "nothing half-made"


def test_a_released_file_loads_as_it_is(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(weights, tmp_path / "official.pt")
    tiny.write_text(tmp_path / "text")
    config = MVDreamConfig(
        path=str(tmp_path / "official.pt"), text=str(tmp_path / "text"), head_channels=HEAD_CHANNELS
    )  # fmt: skip
    prior = load_mvdream(config)
    found = under("views.", fixture("mvdream/unet_cases")[0])
    camera = Camera(found["camera"].unflatten(1, (4, 4)), torch.ones(8))
    eps = prior.eps(found["latents"], found["timesteps"], Condition(found["context"]), camera)
    assert error(eps, found["output"]) < 1e-4


class Harmful:
    """What a pickle may do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harmed",)


def test_a_file_that_is_no_mvdream_is_refused_and_not_executed(
    weights: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "other.pt"
    for content, complaint in (
        ({"model": Harmful()}, "no plain PyTorch file"),
        ({"some.weight": torch.ones(2)}, "no state dict with model.diffusion_model"),
        ({**weights, "ema.decay": torch.ones(1)}, "'ema.decay' is no weight of MVDream"),
        ({**weights, f"{keys.UNET}extra.0.weight": torch.ones(1)}, "extra.0.weight.* is no weight of MVDream"),
    ):
        torch.save(content, path)
        with pytest.raises(ModelFileError, match=complaint):
            files.convert_mvdream(path, tmp_path / "out")
    with pytest.raises(ModelFileError, match=r"no file at .*sd-v2.1-base-4view.pt"):
        files.convert_mvdream(tmp_path / "absent.pt", tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["other.pt"]


def packaged_tokenizer() -> CLIPTokenizer:
    """CLIP's own vocabulary, from the file in the package open_clip_torch (installed by `make`, never imported)."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        pytest.skip("CLIP's vocabulary is missing; run: pip install --no-deps open_clip_torch==3.3.0")
    with gzip.open(Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz"), "rt") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1 : 49152 - 256 - 2 + 1]]
    letters = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *(a + b for a, b in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({word: place for place, word in enumerate(words)}, merges, pad_token="!", model_max_length=77)


def test_prompts_become_the_official_tokens() -> None:
    """With the vocabulary of a package, or of the folder that SCALEDREAMER_TEST_SD_FOLDER names."""
    folder = os.environ.get("SCALEDREAMER_TEST_SD_FOLDER")
    tokenizer = packaged_tokenizer() if folder is None else Source(folder, offline=True).tokenizer()
    cases = json.loads((PARITY / "mvdream" / "token_cases.json").read_text())
    assert len(cases["agree"]) > 5
    for case in cases["agree"]:
        ids = tokenizer(case["prompt"], padding="max_length", truncation=True, max_length=77).input_ids
        assert ids == case["ids"], case["prompt"]
