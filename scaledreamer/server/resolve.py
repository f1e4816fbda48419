"""A validated request becomes a resolved one: every default filled in, and the names that its bytes go by."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from scaledreamer.errors import ConfigError
from scaledreamer.export.presets import LARGEST, AssetSettings, asset_settings
from scaledreamer.export.version import generator
from scaledreamer.server.costs import cost_parts
from scaledreamer.server.models import ModelFile
from scaledreamer.server.problems import FieldFault, ProblemError
from scaledreamer.server.records import Record, Wanted
from scaledreamer.server.schemas import ASSET_FIELDS, ExportRequest, GenerateRequest


def resolve(asked: GenerateRequest, model: ModelFile) -> Wanted:
    """What a request wants of the model that is loaded. Raises ProblemError naming the field."""
    if asked.model is not None and asked.model != model.id:
        raise refused("model", f"no model {asked.model!r:.80}; this server runs {model.id!r}")
    if asked.seed is not None and not model.stochastic:
        raise refused("seed", f"seed {asked.seed} has no use: {model.id!r} is deterministic; leave the seed out")
    seed = (asked.seed or 0) if model.stochastic else None
    blend = None if asked.blend is None else [asked.blend.prompt, asked.blend.weight]
    generated = {"prompt": asked.prompt, "model": model.id, "seed": seed, "blend": blend}
    return wanted(asked, field_key(generated, model), generated)


def resolve_again(old: Wanted, model: ModelFile) -> Wanted:
    """The same request of another model: an earlier process accepted it and did not come to it."""
    asked = ExportRequest.model_validate({key: old.request[key] for key in ASSET_FIELDS if key in old.request})
    kept = {key: old.resolved[key] for key in ("prompt", "blend")}
    seed = (old.resolved["seed"] or 0) if model.stochastic else None
    generated = {**kept, "model": model.id, "seed": seed}
    return replace(wanted(asked, field_key(generated, model), generated), request=old.request)


def field_key(generated: Mapping[str, Any], model: ModelFile) -> str:
    """What the field of a prompt (or blend) and seed is called, if this model makes it."""
    return digest([model.sha256, generated["prompt"], generated["blend"], generated["seed"]])


def resolve_export(asked: ExportRequest, parent: Record) -> Wanted:
    """What an export wants of the field of an earlier job; what it leaves out is as in that job."""
    before = parent.wanted
    own = asked.model_dump(exclude_unset=True)
    started = {} if "preset" in own else {key: value for key, value in before.request.items() if key in ASSET_FIELDS}
    merged = ExportRequest.model_validate({**started, **own})
    kept = {key: before.resolved[key] for key in ("prompt", "model", "seed", "blend")}
    return wanted(merged, before.field_key, kept)


def wanted(asked: ExportRequest, key: str, generated: dict[str, Any]) -> Wanted:
    """Settings and formats beside what was generated."""
    settings = settings_of(asked)
    formats = list(dict.fromkeys(asked.formats))
    asset_key = digest([key, settings.model_dump(mode="json"), formats, generator()])
    shown = {key: getattr(settings, key) for key in ASSET_FIELDS if key != "formats"}
    resolved = {**generated, **shown, "formats": formats}
    request = asked.model_dump(mode="json", exclude_unset=True)
    cost = sum(cost_parts(settings).values())
    return Wanted(request, resolved, generated["prompt"], generated["model"], key, asset_key, cost)


def settings_of(asked: ExportRequest) -> AssetSettings:
    """The preset's settings with those of the request in their place."""
    given = {
        name: value for name in ASSET_FIELDS if name not in ("preset", "formats")
        and (value := getattr(asked, name)) is not None
    }  # fmt: skip
    try:
        return asset_settings(asked.preset, **given)
    except ConfigError as error:  # pragma: no cover - the schema is as narrow
        raise refused("preset", str(error)) from error


def settings_again(resolved: dict[str, Any]) -> AssetSettings:
    """The settings of a resolved request, as when it was accepted; what lies between two prompts is one part."""
    between = resolved["blend"] is not None and 0 < resolved["blend"][1] < 1
    settings = asset_settings(**{key: resolved[key] for key in ASSET_FIELDS if key != "formats"})
    return settings.model_copy(update={"floaters": LARGEST}) if between else settings


def digest(value: object) -> str:
    """32 hexadecimal digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


def refused(field: str, detail: str) -> ProblemError:
    """A request whose field cannot be."""
    return ProblemError("invalid-request", detail, errors=[FieldFault(pointer=f"/{field}", field=field, detail=detail)])
