"""What the commands that make one asset share: its options, the files it is written to, what is said of it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaledreamer.errors import ExportError

if TYPE_CHECKING:  # the command line answers --help without torch
    from scaledreamer.export.finish import Asset
    from scaledreamer.export.presets import AssetSettings

ModelOption = Annotated[str | None, typer.Option(help="a shipped model's name or a .safetensors file")]
TextEncoderOption = Annotated[
    str | None, typer.Option(help="for models that read prompts with CLIP: a Stable Diffusion 2.1-base folder")
]
PromptArgument = Annotated[str, typer.Argument(help="what to make, for example 'a red wooden barrel'")]
OutOption = Annotated[
    list[Path],
    typer.Option("-o", "--out", help=".glb .gltf .obj .ply .stl .usdz, .png for a picture, or a folder for all"),
]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object")]
PresetOption = Annotated[str, typer.Option(help="raw, prop, hero, mobile or print")]
TargetOption = Annotated[str | None, typer.Option(help="generic, blender, godot, unity or unreal")]
ResolutionOption = Annotated[int | None, typer.Option(help="lattice points along the box, 32 to 512")]
FacesOption = Annotated[int | None, typer.Option(help="at most so many faces")]
TextureOption = Annotated[int | None, typer.Option(help="side of the base-colour picture; 0 colours the vertices")]
SizeOption = Annotated[str | None, typer.Option(help="metres along the longest side; auto guesses, unit keeps")]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="key=value of any other setting (docs/assets.md): lods=2, pivot=center"),
]


def settings_given(others: list[str] | None, **options: object) -> dict[str, object]:
    """The settings of an asset that the command line names, of options and of key=value."""
    import yaml

    given = {key: value for key, value in options.items() if value is not None}
    for pair in others or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ExportError(f"cannot read --set {pair!r}; write key=value, for example --set lods=2")
        given[key] = yaml.safe_load(value)
    return given


def settings_for(out: list[Path], preset: str, given: dict[str, object]) -> "AssetSettings":
    """The settings of an asset that goes to these paths; what cannot be written is refused before any work."""
    from scaledreamer.export.formats import SUFFIXES, check_libraries
    from scaledreamer.export.presets import asset_settings

    known = [*SUFFIXES, ".png"]
    for path in out:
        if path.suffix and path.suffix.lower() not in known:
            raise ExportError(f"cannot write {path.suffix!r}; choose one of {known}, or a folder without a suffix")
    check_libraries(path.suffix.lower() for path in out)
    chosen = asset_settings(preset, **given)
    if all(path.suffix for path in out) and chosen.compress != "none":
        raise ExportError("compress makes a file beside others; give a folder for them, for example -o barrel/")
    if all(path.suffix for path in out) and chosen.target in ("generic", "blender"):
        chosen = chosen.model_copy(update={"lods": 0, "collision": "none"})  # they would be files of their own
    return chosen


def write_asset(asset: "Asset", out: list[Path], settings: "AssetSettings", licence: str | None) -> list[str]:
    """Write it to every path, a path without a suffix being a folder for all; the names of what was written."""
    from scaledreamer.export.package import encode_main, extras_of, write_package
    from scaledreamer.export.preview import thumbnail
    from scaledreamer.files import atomic_path

    extras = extras_of(asset, licence)
    written = []
    for path in out:
        if not path.suffix:
            manifest = write_package(asset, path, [".glb"], extras)
            written += [str(path / name) for name in (*(file.name for file in manifest.files), "manifest.json")]
            continue
        if path.suffix.lower() == ".png":
            with atomic_path(path) as partial:
                thumbnail(asset.levels[0], settings.thumbnail or 512).save(partial, format="PNG")
            written.append(str(path))
            continue
        for name, content in encode_main(asset, path.name, extras).items():
            with atomic_path(path.with_name(name)) as partial:
                partial.write_bytes(content)
            written.append(str(path.with_name(name)))
    return written


def say(
    prompt: str, asset: "Asset", written: list[str], seconds: dict[str, float], as_json: bool,
    more: dict[str, object] | None = None,
) -> None:  # fmt: skip
    """Print what was made: one JSON object (with `more` in it), or warnings and two lines."""
    mesh, report = asset.levels[0], asset.report
    facts = {
        "files": written, "vertices": len(mesh.vertices), "faces": len(mesh.faces), "extent_m": report.size.extent_m,
        "degraded": report.degraded, "seconds": seconds, "warnings": report.warnings, **(more or {}),
    }  # fmt: skip
    if as_json:
        print(json.dumps(facts))
        return
    for warning in [*report.warnings, *report.degraded]:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{prompt!r}: {len(mesh.vertices)} vertices, {len(mesh.faces)} faces in {seconds['generate']} s")
    print("wrote " + ", ".join(written))
