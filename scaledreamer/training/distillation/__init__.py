"""Score distillation losses: functions of a prior and clean latents; VSD owns a network."""

from scaledreamer.training.distillation.asd import asd
from scaledreamer.training.distillation.base import Distilled, Negative
from scaledreamer.training.distillation.csd import csd
from scaledreamer.training.distillation.sds import sds
from scaledreamer.training.distillation.vsd import VSD

__all__ = ["VSD", "Distilled", "Negative", "asd", "csd", "sds"]
