"""Official checkpoints as files: the weights in them, and a reason for everything that is left out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scaledreamer.errors import ModelFileError
from scaledreamer.model.official.conv3d import AVERAGE
from scaledreamer.model.official.keys import BBOX, State
from scaledreamer.model.torch_files import REMEDY, open_weights, refuse_lora

READ = {"state_dict", "epoch", "global_step"}  # of a Lightning checkpoint
RESUMING = "only resumes the official training"
SECTIONS = {
    "optimizer_states": RESUMING,
    "lr_schedulers": RESUMING,
    "loops": RESUMING,
    "callbacks": RESUMING,
    "pytorch-lightning_version": "says what wrote the file",
}
PARTS = {
    "background": "a mesh has no background",
    "renderer": "made the pictures of training; a mesh is read from the field",
}
UNUSED = {BBOX: "the radius in the config says the same", AVERAGE: "a buffer that nothing reads"}  # of the geometry


@dataclass(frozen=True)
class OfficialFile:
    """A checkpoint of the official code; its tensors stay on disk until they are used."""

    state: State
    epoch: int | None
    step: int | None
    ignored: dict[str, str]  # every key that no generator needs, and why


def read_official(path: Path) -> OfficialFile:
    """A Lightning checkpoint, or a bare state dict. Anything else is refused with what was found."""
    found = open_weights(path)
    if "state_dict" not in found:
        found = {"state_dict": found}
    state = found["state_dict"]
    check_state(state, path)
    sections = {key: SECTIONS.get(key, "a section that is not known here") for key in found if key not in READ}
    return OfficialFile(state, count(found, "epoch"), count(found, "global_step"), ignored_weights(state) | sections)


def check_state(state: object, path: Path) -> None:
    """Tensors by name, and beside the geometry nothing but the sections that are known."""
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise ModelFileError(f"the state_dict in {path} is no dictionary of weights; {REMEDY}")
    refuse_lora(path, state)
    odd = sorted(key for key, value in state.items() if not isinstance(value, Tensor))
    if odd:
        raise ModelFileError(f"{path} holds {odd[:3]}, which are no tensors; {REMEDY}")
    sections = {key.partition(".")[0] for key in state}
    unknown = sorted(sections - {"geometry", *PARTS})
    if "geometry" in sections and unknown:
        raise ModelFileError(
            f"{path} has the unknown sections {unknown} beside geometry, background, renderer; {REMEDY}"
        )


def ignored_weights(state: State) -> dict[str, str]:
    """The weights that are not read, and why."""
    reasons = {}
    for key in state:
        section, _, rest = key.partition(".")
        reason = PARTS.get(section) or UNUSED.get(rest if section == "geometry" else key)
        if reason:
            reasons[key] = reason
    return reasons


def count(found: dict[str, Any], key: str) -> int | None:
    """A counter of the checkpoint, where it has one."""
    value = found.get(key)
    return value if isinstance(value, int) else None
