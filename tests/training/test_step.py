"""A training step with every loss and every way to tell the prior; VSD's copy resumes with the run."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from scaledreamer.model.cameras import Camera
from scaledreamer.model.generators import TriplaneTransformerConfig
from scaledreamer.model.rendering import LatticeConfig, Rendering
from scaledreamer.model.rendering.result import Samples
from scaledreamer.model.text import TextEmbedding, TextEncoder
from scaledreamer.training import step as step_module
from scaledreamer.training.config import DistillRun, resolve
from scaledreamer.training.loop import LoopConfig, Trainer
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.base import Condition, NetworkPrior
from scaledreamer.training.priors.config import StableDiffusionConfig
from scaledreamer.training.priors.process import scaled_linear
from scaledreamer.training.regularizers import RegularizerConfig, regularize
from scaledreamer.training.schedules import constant
from scaledreamer.training.step import DistillConfig, DistillTask

WIDTH = 8
GENERATOR = TriplaneTransformerConfig.model_validate(
    {
        "width": 16, "text_width": WIDTH, "layers": 1, "heads": 2, "low_res": 2, "plane_channels": 4, "radius": 1.0,
        "sphere_bias": 0.5, "decoder": {"kind": "summed", "hidden": 8},
    }
)  # fmt: skip


class Letters(TextEncoder):
    """Four seeded tokens a prompt."""

    name = "letters"

    def encode(self, prompts: list[str]) -> TextEmbedding:
        seeds = [torch.Generator().manual_seed(sum(map(ord, prompt))) for prompt in prompts]
        tokens = torch.stack([torch.randn(4, WIDTH, generator=seed) for seed in seeds])
        return TextEmbedding(tokens, tokens.mean(1), torch.ones(len(prompts), 4, dtype=torch.bool))

    def overflow(self, prompt: str) -> int:
        return 0


class Small(NetworkPrior):
    """One hidden layer a pixel; remembers what it was told."""

    negative_prompt = "ugly"

    def __init__(self, views: int) -> None:
        torch.manual_seed(0)
        self.views, self.prediction, self.process = views, "eps", scaled_linear()
        self.network = nn.Sequential(nn.Linear(3 + WIDTH, 16), nn.Tanh(), nn.Linear(16, 3)).requires_grad_(False)
        self.embedded: list[str] = []

    def embed(self, prompts: list[str]) -> Condition:
        self.embedded += prompts
        return Condition(Letters().encode(prompts).tokens)

    def encode(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
        noise = 0.0 if rng is None else 0.1 * torch.randn(images.shape, generator=rng)
        return 2 * images - 1 + noise

    def call(self, network: nn.Module, x_t: Tensor, t: Tensor, cond: Condition, camera: Camera | None) -> Tensor:
        told = cond.tokens.mean(1)[:, :, None, None].expand(-1, -1, *x_t.shape[2:])
        out: Tensor = network(torch.cat([x_t, told], 1).movedim(1, -1)).movedim(-1, 1)
        return out


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("a mug\na hat\na red house\n")
    return path


def task(corpus: Path, loss: str, views: int = 1, **options: Any) -> DistillTask:
    config = DistillConfig.model_validate(
        {
            "corpus": {"kind": "file", "path": corpus}, "loss": {"kind": loss, "guidance": 3.0}, "prompts": 2,
            "views": {"views": views}, "renderer": {"kind": "lattice", "nodes": 8, "samples": 6}, "pixels": 8,
            **options,
        }
    )  # fmt: skip
    return DistillTask(GENERATOR, Small(views), Letters(), config, seed=0)


TOLD = [{}, {"view_dependent": True}, {"view_dependent": True, "perp_neg": -0.5}]


@pytest.mark.parametrize("told", TOLD, ids=["plain", "sides", "perp-neg"])
@pytest.mark.parametrize("loss", ["asd", "sds", "csd", "vsd"])
def test_every_loss_reaches_the_generator_however_the_prior_is_told(
    corpus: Path, loss: str, told: dict[str, Any]
) -> None:
    run = task(corpus, loss, **told)
    value, stats = run.loss(0, Rank())
    value.backward()
    norm = sum(float(p.grad.norm()) for p in run.model.parameters() if p.grad is not None)
    assert 0 < norm < float("inf") and stats["sd_grad_norm"] > 0
    assert ("lora_loss" in stats) == (loss == "vsd")
    assert isinstance(run.prior, Small) and run.prior.embedded[0] == "ugly", "the prior's own negative prompt"
    assert any(prompt.endswith("overhead view") for prompt in run.prior.embedded) == ("view_dependent" in told)


@pytest.mark.parametrize("loss", ["asd", "sds", "csd", "vsd"])
def test_sides_and_perp_neg_change_every_loss(corpus: Path, loss: str) -> None:
    ways = [*TOLD, {"view_dependent": True, "perp_neg": -1.0}]
    values = [float(task(corpus, loss, **told).loss(0, Rank())[0].detach()) for told in ways]
    assert len(set(values)) == len(ways)


def test_text_noise_reaches_the_generator_and_not_the_prior(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Tensor] = []
    for noise in (0.0, 0.5):
        run = task(corpus, "asd", text_noise=noise)
        planes = run.scenery.generator.planes
        monkeypatch.setattr(
            run.scenery.generator, "planes", lambda text, planes=planes: heard.append(text.tokens) or planes(text)
        )
        told = run.prior.embed(run.corpus)
        run.loss(0, Rank())
        assert torch.equal(told.tokens, Letters().encode(run.corpus).tokens)
    exact, noisy = heard
    assert not torch.equal(exact, noisy)
    every = Letters().encode(["a mug", "a hat", "a red house"]).tokens
    assert all(bool((prompt == every).flatten(1).all(1).any()) for prompt in exact)
    assert float((noisy - exact).std() / exact.std()) == pytest.approx(0.5, rel=0.4)


@pytest.mark.parametrize("views", [1, 4])
def test_a_vsd_run_resumes_to_the_bit_with_its_copy(corpus: Path, tmp_path: Path, views: int) -> None:
    def trainer(folder: str) -> Trainer:
        return Trainer(task(corpus, "vsd", views), LoopConfig(steps=4), tmp_path / folder, Rank(), {"kind": "test"})

    whole, first, second = trainer("whole"), trainer("cut"), trainer("cut")
    for _ in range(4):
        whole.advance()
    for _ in range(2):
        first.advance()
    first.save()
    second.restore()
    for _ in range(2):
        second.advance()
    for found, expected in (
        (second.model.state_dict(), whole.model.state_dict()),
        (second.task.extra_state(), whole.task.extra_state()),
    ):
        assert found.keys() == expected.keys() and found
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_perp_neg_needs_the_sides() -> None:
    with pytest.raises(ValidationError, match=r"perp_neg=-0\.5 needs view_dependent=true"):
        DistillConfig.model_validate({"loss": {"kind": "asd"}, "perp_neg": -0.5})


def test_a_preview_is_drawn_as_the_end_of_the_run_is(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = task(corpus, "asd", sharpness=[0, 12.0, 92.0, 5000], preview=["a mug"])
    run.steps = 5000
    seen = list[float]()
    plain = step_module.render

    def noted(field: Any, camera: Any, background: Any, size: Any, config: LatticeConfig, *rest: Any) -> Any:
        seen.append(config.sharpness)
        return plain(field, camera, background, size, config, *rest)

    monkeypatch.setattr(step_module, "render", noted)
    assert run.preview(run.model) is not None and seen == [92.0]


def test_terms_over_what_is_seen_are_zero_where_nothing_is() -> None:
    nothing = torch.zeros(1, 4, 4, 1, requires_grad=True)
    samples = Samples(
        torch.ones(1, 32, 1), torch.ones(1, 32, 3), torch.ones(1, 32, 3), torch.zeros(1, 16, 2),
        directions=torch.ones(1, 16, 3),
    )  # fmt: skip
    colors = torch.zeros(1, 4, 4, 3)
    empty = Rendering(colors, colors, colors, nothing, nothing, colors, nothing * 1.0, samples)
    total, values = regularize(RegularizerConfig(orient=constant(1.0), z_variance=constant(1.0)), empty, 0, 1)
    assert values == {"orient": 0, "z_variance": 0}
    total.backward()
    assert nothing.grad is not None and bool(nothing.grad.isfinite().all())


def test_a_lattice_may_grow_over_a_run_and_others_have_none() -> None:
    config = DistillConfig.model_validate(
        {"loss": {"kind": "asd"}, "nodes": {"knots": [[0, 8], [0.5, 8], [0.51, 12]]}, "sharpness": 20}
    )
    lattices = [config.renderer_at(step, 100) for step in (0, 50, 51, 100)]
    assert [each.nodes for each in lattices if isinstance(each, LatticeConfig)] == [8, 8, 12, 12]
    marched = {"loss": {"kind": "asd"}, "renderer": {"kind": "volsdf"}}
    for wrong, remedy in (({"nodes": 8}, "set nodes=null"), ({"regularizers": {"smoothness": 1}}, "smoothness=0")):
        with pytest.raises(ValidationError, match=remedy):
            DistillConfig.model_validate(marched | wrong)


def test_a_run_chooses_its_prior_by_kind() -> None:
    run = resolve(
        {
            "kind": "distill", "prior": {"kind": "stable-diffusion", "path": "folder"}, "text_encoder": "prior",
            "distill": {"loss": {"kind": "vsd"}}, "loop": {"steps": 1},
        },
        ["prior.encode_chunk=1"],
    )  # fmt: skip
    assert isinstance(run, DistillRun) and isinstance(run.prior, StableDiffusionConfig)
    assert run.prior.encode_chunk == 1
