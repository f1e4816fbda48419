"""One asset, longer: a field that a generator made in one pass goes on learning from a prior, for its prompt alone.

What is optimised is what the prompt has brought: the planes, the voxels, the perceptrons of a hash grid; the decoder
stays. Every `check_every` steps the prior itself judges the averaged field (`judge.py`), and the best one is kept. The
first one takes part, so that by this judge the result is never worse than what it began with. A field that it likes
very much better is another thing, and no longer the first one improved: then the first is kept.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field as Limits
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from scaledreamer.config import Config
from scaledreamer.errors import ConfigError
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.copies import frozen_copy, own_copy
from scaledreamer.model.rendering import Background, PlainBackground, PlainBackgroundConfig, build_background
from scaledreamer.training.judge import JudgeConfig, judge
from scaledreamer.training.losses import build_vsd
from scaledreamer.training.optimizers import AdamConfig, OptimizerConfig, build_optimizer
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.base import Prior
from scaledreamer.training.schedules import Schedule, Scheduled
from scaledreamer.training.step import DistillConfig, lesson

# All were taken; no check was better; the loss was not finite; the judge liked it too much.
Ended = Literal["steps", "patience", "not-finite", "distrusted"]
MAX_BAD_STEPS = 10  # in a row that are not finite
DRAWN, HELD = 1 << 17, 1 << 13  # points of the box, and those of them closest to the surface, whose colours are held
COUNTED = 1 << 14  # points of the box at which matter is counted
SOFT = 0.02  # of the box's half side: how soft a border is where matter is counted


class RefineConfig(Config):
    """Everything but the field, the prompt and the prior."""

    distill: DistillConfig  # what a step is; its corpus, prompts and preview are not used
    at: PositiveInt = 1  # the step of a run of as many, at which the schedules of `distill` are read: its end
    steps: PositiveInt = 100
    optimizer: OptimizerConfig = AdamConfig(lr=3e-3)
    lr_scale: Scheduled = Schedule(knots=((0, 0.1), (0.05, 1), (1, 0.05)))
    ema: Annotated[float, Limits(ge=0, lt=1)] = 0.98
    hold_colors: NonNegativeFloat = 4e3  # weight of their mean absolute change beside the loss; 0: the prior decides
    hold_spread: NonNegativeFloat = 1e8  # weight of the mean square change of place and spread of matter, relative
    judge: JudgeConfig = JudgeConfig()
    check_every: PositiveInt = 50
    patience: PositiveInt = 2  # checks without a better one that end it
    most_gain: Annotated[float, Limits(gt=0, le=1)] = 0.05  # of the first score; with more, no step is kept. 1: any is
    seed: Annotated[int, Limits(ge=0)] = 0


@dataclass(frozen=True)
class Check:
    """What the judge said after a step; lower is better."""

    step: int  # 0: the field as it came
    score: float
    best: bool  # of those so far


@dataclass(frozen=True)
class Refined:
    """The best field, and how it was found."""

    field: Field  # one scene
    checks: tuple[Check, ...]
    ended: Ended
    kept: Check  # of the field


Told = Callable[[Check, Field], None]  # hears of every check, with the field that was judged


def refine(
    field: Field, prompt: str, prior: Prior, config: RefineConfig, told: Sequence[Told] = (),
    also: Sequence[Field] = (),
) -> Refined:  # fmt: skip
    """Scene 0 of a field after at most `config.steps` steps of distillation for one prompt.

    The steps begin from the field that the judge likes best: this one, or one of `also`, other answers to the
    prompt. Where they come to one whose score is lower by more than `config.most_gain` they are not trusted. What
    is given is not changed. The same seed gives the same result; where no check is better than the first it is the
    field that came, to the bit. All of `told` hear of every check. Raises ConfigError for views that make no whole
    sets of the prior's, and for a field that the prior can say nothing of.
    """
    work, checks = Work(field, prompt, prior, config), list[Check]()

    def check(step: int, judged: Work, highest: float = math.inf) -> Check:
        score = judged.score(judged.average)
        checks.append(Check(step, score, best=score < highest))
        for hear in told:
            hear(checks[-1], judged.average)
        return checks[-1]

    first = check(0, work).score
    if not math.isfinite(first):
        raise ConfigError(
            f"the prior's score of the first field is {first}: does {prompt!r} have a surface, and do "
            "distill.views see it?"
        )
    trusted, start = (1 - config.most_gain) * first, checks[0]
    for other in also:
        begun = Work(other, prompt, prior, config)
        if (found := check(0, begun, start.score)).best and found.score >= trusted:
            work, start = begun, found
    begun_with = kept = (start, frozen_copy(work.average)[0])
    ended: Ended = "steps"
    stale = 0  # checks in a row that were no better
    for step in range(1, config.steps + 1):
        if not work.advance(step):
            ended = "not-finite"
            break
        if step % config.check_every and step != config.steps:
            continue
        found = check(step, work, kept[0].score)
        stale += 1
        if found.best:
            kept, stale = (found, frozen_copy(work.average)[0]), 0
        if found.score < trusted:
            kept, ended = begun_with, "distrusted"
            break
        if stale == config.patience:
            ended = "patience"
            break
    return Refined(kept[1], tuple(checks), ended, kept[0])


class Work:
    """A field while it is optimised: its own tensors, their moving average, the optimiser."""

    def __init__(self, field: Field, prompt: str, prior: Prior, config: RefineConfig) -> None:
        views = config.distill.views.views
        if views % prior.views:
            raise ConfigError(
                f"distill.views.views={views} makes no whole set of this prior's {prior.views} views; "
                f"set distill.views.views={prior.views}"
            )
        self.prompt, self.prior, self.config = prompt, prior, config
        self.own, self.tensors = own_copy(field)
        self.average, self.averages = frozen_copy(field)
        self.background = behind(config.distill).to(field.device)
        self.uncond, self.vsd = prior.embed([prior.negative_prompt]), build_vsd(config.distill.loss, prior)
        self.optimizer = build_optimizer(config.optimizer, [{"params": self.tensors}])
        self.skin, self.box = near_surface(field), drawn(field, COUNTED)
        self.colors = field[0].query(self.skin).rgb.detach()
        self.spread = spread(field[0], self.box).detach()
        self.bad = 0  # steps in a row that were not finite

    def score(self, field: Field) -> float:
        """What the judge says; lower is better."""
        config = self.config
        return judge(
            field, self.background, self.prompt, config.distill, self.prior, self.uncond, config.at, config.judge,
            config.seed,
        )  # fmt: skip

    def advance(self, step: int) -> bool:
        """One step, counted from 1; one that is not finite is skipped. False after MAX_BAD_STEPS of them in a row."""
        config, rng = self.config, Rank().rng(self.config.seed, step, "refine")
        loss, _ = lesson(
            self.own, self.background, [self.prompt], config.distill, self.prior, self.uncond,
            (config.at, config.at), rng, Rank(), self.vsd,
        )  # fmt: skip
        if config.hold_colors:
            loss = loss + config.hold_colors * F.l1_loss(self.own.query(self.skin).rgb, self.colors)
        if config.hold_spread:
            loss = loss + config.hold_spread * relative_change(spread(self.own, self.box), self.spread)
        gradients = torch.autograd.grad(loss, self.tensors, allow_unused=True)  # what prompts share gets none
        known = [gradient for gradient in gradients if gradient is not None]
        if not all(bool(value.isfinite().all()) for value in (loss, *known)):
            self.bad += 1
            return self.bad < MAX_BAD_STEPS
        self.bad = 0
        for tensor, gradient in zip(self.tensors, gradients, strict=True):
            tensor.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = config.optimizer.lr * config.lr_scale.at(step, config.steps)
        self.optimizer.step()
        decay = min(config.ema, step / (9 + step))
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.tensors, 1 - decay)
        return True


def near_surface(field: Field) -> Float[Tensor, "1 N 3"]:
    """Evenly drawn points of the box that are closest to the surface of scene 0, always the same ones."""
    points = drawn(field, DRAWN)
    with torch.no_grad():
        closest = field[0].query(points).sdf[0, :, 0].abs().topk(HELD, largest=False).indices
    return points[:, closest]


def drawn(field: Field, count: int) -> Float[Tensor, "1 N 3"]:
    """Points of the box, evenly, always the same ones."""
    rng = torch.Generator().manual_seed(0)
    return (2 * torch.rand(1, count, 3, generator=rng) - 1).to(field.device) * field.bound


def spread(field: Field, points: Float[Tensor, "1 N 3"]) -> Float[Tensor, "2 3"]:
    """Mean and standard deviation, along each axis, of where the matter of scene 0 is, in object units."""
    matter = torch.sigmoid(-field.sdf(points)[0] / (SOFT * field.bound))
    share = matter / matter.sum().clamp(min=1e-6)
    mean = (share * points[0]).sum(0)
    return torch.stack([mean, (share * (points[0] - mean).square()).sum(0).clamp(min=1e-12).sqrt()])


def relative_change(now: Float[Tensor, "2 3"], first: Float[Tensor, "2 3"]) -> Float[Tensor, ""]:
    """Mean square of the change of place and spread, in first spreads."""
    return ((now - first) / first[1]).square().mean()


def behind(config: DistillConfig) -> Background:
    """What stands behind the object: the recipe's plain colour, or mid-grey: no model file holds a learned one."""
    if isinstance(config.background, PlainBackgroundConfig):
        return build_background(config.background)
    return PlainBackground(random_color=config.background.random_color)
