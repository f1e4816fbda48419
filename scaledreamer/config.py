"""The base of every configuration: frozen, and an unknown key is an error that names the nearest known one."""

from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """A frozen value; unknown keys and wrong types are refused before any work."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def explain(error: ValidationError) -> str:
    """A validation error as one line a fault: the key, the value that was met, and what fits."""
    lines = []
    for fault in error.errors(include_url=False):
        key = ".".join(str(part) for part in fault["loc"])
        lines.append(f"{key}: {fault['msg']} (got {fault.get('input')!r:.80})")
    return "; ".join(lines)
