"""What a finished asset shall be: one typed value, from a preset and what the user says otherwise."""

from typing import Annotated, Any, Literal

from pydantic import Field as Limits
from pydantic import ValidationError

from scaledreamer.config import Config, explain
from scaledreamer.errors import ConfigError

PresetName = Literal["raw", "prop", "hero", "mobile", "print"]
Target = Literal["generic", "blender", "godot", "unity", "unreal"]
TextureSize = Literal[0, 256, 512, 1024, 2048, 4096]
LARGEST = 0.99  # as `floaters`: the largest part alone stays


class AssetSettings(Config):
    """Every choice that finishing makes; lengths in metres, times in seconds of one core."""

    preset: PresetName = "prop"
    target: Target = "generic"  # how parts are named and laid out for an engine
    resolution: Annotated[int, Limits(ge=32, le=512)] = 128  # lattice points along the box
    mode: Literal["fast", "exact"] = "fast"
    tight: bool = False  # the lattice spans the object instead of the box
    floaters: Annotated[float, Limits(ge=0, lt=1)] = 0.01  # parts below this share of volume and of area go
    footing: Annotated[float, Limits(ge=0, le=0.1)] = 0.02  # of the height: what is below is pressed flat, to stand on
    repair: bool = True  # degenerate faces, winding, non-manifold edges, holes
    faces: Annotated[int, Limits(ge=20, le=500_000)] | None = 10_000  # at most; None keeps all
    texture: TextureSize = 1024  # side of the base-colour picture; 0 colours the vertices instead
    unwrap_budget_s: Annotated[float, Limits(gt=0, le=600)] = 20.0
    lods: Annotated[int, Limits(ge=0, le=5)] = 3  # coarser levels beside the asset itself
    collision: Literal["none", "box", "hull", "convex"] = "hull"
    collision_budget_s: Annotated[float, Limits(gt=0, le=600)] = 20.0
    size: Annotated[float, Limits(gt=0, le=10_000)] | Literal["auto", "unit"] = (
        "auto"  # along `axis`; unit: as generated
    )
    axis: Literal["x", "y", "z", "longest"] = "longest"  # of object space, z up
    pivot: Literal["base", "center", "origin"] = "base"
    compress: Literal["none", "draco"] = "none"  # draco: a compressed GLB beside the others, in a folder of files
    thumbnail: Annotated[int, Limits(ge=0, le=2048)] = 512  # pixels along its side; 0 leaves it out
    turntable: Annotated[int, Limits(ge=0, le=72)] = 0  # frames


PRESETS: dict[PresetName, dict[str, Any]] = {
    "raw": {
        "floaters": 0.0, "footing": 0.0, "repair": False, "faces": None, "texture": 0, "lods": 0, "collision": "none",
        "size": "unit", "pivot": "origin", "thumbnail": 0,
    },
    "prop": {},
    "hero": {"resolution": 256, "tight": True, "faces": 50_000, "texture": 2048, "collision": "convex"},
    "mobile": {"faces": 2_000, "texture": 512, "lods": 2},
    "print": {
        "resolution": 256, "tight": True, "mode": "exact", "faces": 200_000, "texture": 0, "lods": 0,
        "collision": "none",
    },
}  # fmt: skip


def asset_settings(preset: str = "prop", **given: Any) -> AssetSettings:
    """The settings of a preset, with the given ones in their place.

    Raises ConfigError with the key and the remedy; ExportError where they need a library that is not installed.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}; choose one of {list(PRESETS)}")
    try:
        settings = AssetSettings(**{**PRESETS[preset], "preset": preset, **given})
    except ValidationError as error:
        raise ConfigError(explain(error)) from error
    if settings.compress == "draco":
        from scaledreamer.export.draco import check_draco  # only now, for it brings the whole writer of glTF

        check_draco()
    return settings
