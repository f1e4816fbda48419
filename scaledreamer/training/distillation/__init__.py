"""Score distillation losses: functions of a prior and clean latents."""

from scaledreamer.training.distillation.asd import asd
from scaledreamer.training.distillation.base import Distilled, Negative
from scaledreamer.training.distillation.csd import csd
from scaledreamer.training.distillation.sds import sds

__all__ = ["Distilled", "Negative", "asd", "csd", "sds"]
