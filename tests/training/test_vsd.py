"""VSD: what it is at the start, what its copy learns, and how it resumes."""

from pathlib import Path

import pytest
import torch
from fixtures import error
from torch import Tensor, nn

from scaledreamer.errors import ConfigError
from scaledreamer.model.cameras import Camera, turntable
from scaledreamer.training.distillation import VSD, asd
from scaledreamer.training.distillation.lora import LowRank, adapt, trained
from scaledreamer.training.losses import CSDConfig, VSDConfig, build_vsd
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.base import Condition, NetworkPrior, share
from scaledreamer.training.priors.config import MVDreamConfig, StableDiffusionConfig
from scaledreamer.training.priors.mvdream import load_mvdream
from scaledreamer.training.priors.process import Cosine
from scaledreamer.training.priors.props import PropsPrior
from scaledreamer.training.priors.stable_diffusion import load_stable_diffusion
from scaledreamer.training.priors.uvit import MultiViewUViT, UViTConfig
from tests.training.priors import tiny


def props() -> PropsPrior:
    torch.manual_seed(0)
    network = MultiViewUViT(UViTConfig(pixels=8, stem=8, width=24, depth=2, heads=2, text_width=16))
    with torch.no_grad():
        for weight in network.parameters():  # nothing stays at its zero start
            weight.add_(0.05 * torch.randn_like(weight))
    return PropsPrior(network)


def told(prior: NetworkPrior, rng: torch.Generator) -> tuple[Condition, Condition]:
    if not isinstance(prior, PropsPrior):
        return prior.embed(["a mug"]), prior.embed([""])
    tokens = torch.randn(2, 5, 16, generator=rng)
    both = Condition(tokens, tokens.mean(1), torch.ones(2, 5, dtype=torch.bool))
    return both[:1], both[1:]


@pytest.fixture(scope="module", params=["props", "stable-diffusion", "mvdream"])
def prior(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NetworkPrior:
    folder = str(tmp_path_factory.mktemp("prior"))
    match request.param:
        case "props":
            return props()
        case "stable-diffusion":
            return load_stable_diffusion(StableDiffusionConfig(path=str(tiny.write_sd(Path(folder)))))
        case _:
            return load_mvdream(MVDreamConfig(path=str(tiny.write_mvdream(Path(folder))), text=folder))


def test_a_copy_that_equals_the_prior_makes_vsd_asd_without_shift(prior: NetworkPrior, rng: torch.Generator) -> None:
    (cond, uncond), camera = told(prior, rng), turntable(4)
    x_0, noise = torch.randn(2, 4, 4, 8, 8, generator=rng).unbind()
    x_0.requires_grad_()
    t = prior.process.draw(0.5, 0.5, 1, rng) if prior.process.time(0.5) != 0.5 else torch.tensor([0.5])
    ours = VSD(prior)(x_0, cond, uncond, camera, noise=noise, t=t, guidance=7.5)
    same = asd(prior, x_0, cond, uncond, camera, noise=noise, t=t, t_shifted=t, guidance=7.5)
    by_vsd, by_asd = (torch.autograd.grad(result.loss, x_0)[0] for result in (ours, same))
    assert float(by_asd.norm()) > 1e-3 and error(by_vsd, by_asd) < 1e-5


def test_the_copy_learns_the_renders_and_the_prior_stays_as_it_was(prior: NetworkPrior) -> None:
    rng = torch.Generator().manual_seed(0)
    (cond, _), camera = told(prior, rng), turntable(4)
    before = [weight.clone() for weight in prior.network.parameters()]
    torch.manual_seed(0)
    vsd = VSD(prior, lora_rank=2, lr=1e-2)
    x_0 = torch.full((4, 4, 8, 8), 0.3)
    losses = [vsd.learn(x_0, cond, camera, Rank().rng(0, 0), Rank()) for _ in range(30)]  # the same draws every time
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, prior.network.parameters(), strict=True))
    assert all(weight.grad is None for weight in prior.network.parameters())
    moved = [name for name, weight in trained(vsd.network).items() if name.endswith("up.weight") and weight.any()]
    assert moved, "some of the low-rank steps left zero"


def test_a_prior_without_a_camera_gets_one_that_starts_at_nothing(tmp_path: Path, rng: torch.Generator) -> None:
    prior = load_stable_diffusion(StableDiffusionConfig(path=str(tiny.write_sd(tmp_path))))
    vsd, (cond, _) = VSD(prior, lora_rank=1, lr=1e-2), told(prior, rng)
    x_t, t = torch.randn(1, 4, 8, 8, generator=rng), torch.tensor([500])
    front, back = turntable(4)[:1], turntable(4)[2:3]
    assert error(vsd.eps(x_t, t, cond, front), prior.eps(x_t, t, cond)) < 1e-6
    for _ in range(3):
        vsd.learn(x_t, cond, front, rng, Rank())
    with torch.no_grad():
        assert not torch.equal(vsd.eps(x_t, t, cond, front), vsd.eps(x_t, t, cond, back)), "now it tells them apart"


class Known(NetworkPrior):
    """Predicts v as one number, learned; remembers the cameras it saw."""

    views = 2

    def __init__(self) -> None:
        self.network = nn.Sequential(nn.Linear(1, 1, bias=False)).requires_grad_(False)
        self.process, self.prediction, self.seen = Cosine(), "v", list[Tensor]()

    def embed(self, prompts: list[str]) -> Condition:
        return Condition(torch.zeros(len(prompts), 1, 1))

    def encode(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
        return images

    def call(self, network: nn.Module, x_t: Tensor, t: Tensor, cond: Condition, camera: Camera | None) -> Tensor:
        assert camera is not None and len(cond) == len(x_t)
        self.seen.append(camera.c2w)
        out: Tensor = network(x_t[..., None])[..., 0]
        return out


def test_the_copy_s_loss_is_the_squared_error_to_v_and_a_tenth_of_the_sets_have_no_camera() -> None:
    prior = Known()
    with torch.no_grad():
        next(prior.network.parameters()).zero_()
    vsd, x_0 = VSD(prior, lr=0.0), torch.full((2000, 1, 1, 1), 0.5)
    front = turntable(1)
    camera = Camera(front.c2w.repeat(2000, 1, 1), front.fovy.repeat(2000))
    loss = vsd.learn(x_0, prior.embed([""]), camera, torch.Generator().manual_seed(0), Rank())
    assert loss == pytest.approx(0.5 * (1 + 0.25), rel=0.06), "E (cos^2 noise^2 + sin^2 x_0^2) over all times"
    dropped = (prior.seen[0] == 0).flatten(1).all(1)
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=0.02)
    assert torch.equal(dropped[::2], dropped[1::2]), "a view set keeps its camera or loses it as a whole"


def test_the_copy_goes_on_exactly_from_its_state(rng: torch.Generator) -> None:
    prior = props()
    (cond, _), camera, x_0 = told(prior, rng), turntable(4), torch.randn(4, 4, 8, 8, generator=rng)

    def learn(vsd: VSD, steps: range) -> None:
        for step in steps:
            vsd.learn(x_0, cond, camera, Rank().rng(0, step), Rank())

    whole, first, second = VSD(prior), VSD(prior), VSD(prior)
    whole.load_state(first.state())  # the same random start
    learn(whole, range(6))
    learn(first, range(3))
    second.load_state(first.state())
    learn(second, range(3, 6))
    found, expected = second.state(), whole.state()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_step_that_is_not_finite_leaves_the_copy_as_it_was(rng: torch.Generator) -> None:
    prior = props()
    vsd, (cond, _) = VSD(prior), told(prior, rng)
    before = {name: value.clone() for name, value in vsd.state().items()}
    vsd.learn(torch.full((4, 4, 8, 8), torch.nan), cond, turntable(4), rng, Rank())
    assert all(torch.equal(before[name], value) for name, value in vsd.state().items())


def test_a_low_rank_step_starts_at_nothing_and_has_its_rank(rng: torch.Generator) -> None:
    frozen = nn.Linear(6, 5).requires_grad_(False)
    layer, x = LowRank(frozen, 2), torch.randn(3, 6, generator=rng)
    assert torch.equal(layer(x), frozen(x))
    with torch.no_grad():
        layer.up.weight.normal_(generator=rng)
    step = layer(torch.eye(6)) - frozen(torch.eye(6))
    assert int(torch.linalg.matrix_rank(step, atol=1e-5)) == 2
    half = LowRank(nn.Linear(6, 5, dtype=torch.float16).requires_grad_(False), 2)
    assert half.up.weight.dtype == torch.float32 and half(x.half()).dtype == torch.float16


def test_an_adapted_copy_shares_its_frozen_weights() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)).requires_grad_(False)
    copy = adapt(share(network), 1)
    assert isinstance(copy[0], LowRank) and isinstance(network[0], nn.Linear)  # type: ignore[index]
    assert copy[0].frozen.weight is network[0].weight  # type: ignore[index]
    assert sorted(trained(copy)) == ["0.down.weight", "0.up.weight"]


def test_vsd_needs_a_prior_with_a_network() -> None:
    from tests.training.test_asd_parity import StandIn

    with pytest.raises(ConfigError, match="StandIn has none"):
        build_vsd(VSDConfig(), StandIn(1, 64))
    assert build_vsd(CSDConfig(), StandIn(1, 64)) is None
    assert build_vsd(VSDConfig(), Known()) is not None
