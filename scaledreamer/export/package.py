"""A finished asset as a folder of files that an engine and a pipeline can read, and its manifest."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from scaledreamer.errors import ExportError
from scaledreamer.export.draco import encode_draco_glb
from scaledreamer.export.finish import Asset
from scaledreamer.export.formats import AXES, MEDIA_TYPES, SUFFIXES, encode
from scaledreamer.export.gltf import Part
from scaledreamer.export.presets import Target
from scaledreamer.export.preview import thumbnail, turntable
from scaledreamer.export.report import File, Manifest, Role
from scaledreamer.files import atomic_path

ROLES: dict[str, Role] = {".png": "texture", ".mtl": "material", ".bin": "buffer"}


def parts_of(asset: Asset, target: Target) -> list[Part]:
    """The nodes of the asset's main file as an engine wants them.

    Unity reads levels of detail by their names, Godot and Unreal collision shapes; the others get the asset alone.
    """
    name, whole = asset.name, Part(asset.name, asset.levels[0])
    match target:
        case "unity" if len(asset.levels) > 1:
            return [Part(f"{name}_LOD{number}", mesh) for number, mesh in enumerate(asset.levels)]
        case "godot" if asset.collision:
            hulls = [Part(f"{name}_{n}-convcolonly", part, seen=False) for n, part in enumerate(asset.collision)]
            return [whole, *hulls]
        case "unreal" if asset.collision:
            return [whole, *(Part(f"UCX_{name}_{n:02d}", part, seen=False) for n, part in enumerate(asset.collision))]
        case _:
            return [whole]


def extras_of(asset: Asset, licence: str | None, with_prompt: bool = True) -> dict[str, object]:
    """What the asset and its root node say about themselves."""
    report = asset.report
    digest = hashlib.sha256(report.prompt.encode()).hexdigest()
    told: dict[str, object] = {"prompt": report.prompt} if with_prompt else {}
    return {
        **told, "prompt_sha256": digest, "model": report.model, "generator": report.generator,
        "preset": report.settings.preset, "target": report.settings.target, "size_source": report.size.source,
        "digitalSourceType": "trainedAlgorithmicMedia", **({"licence": licence} if licence else {}),
    }  # fmt: skip


def encode_main(asset: Asset, file: str, extras: Mapping[str, object]) -> dict[str, bytes]:
    """The main file in the format of its suffix, after those that it refers to."""
    return encode(parts_of(asset, asset.report.settings.target), file, asset.name, extras)


def contents(
    asset: Asset, formats: Sequence[str], extras: Mapping[str, object]
) -> dict[str, tuple[bytes, Role, int | None]]:
    """Every file of the asset but the manifest: its bytes, its role, and which level of detail it belongs to."""
    for suffix in formats:
        if suffix not in SUFFIXES:
            raise ExportError(f"cannot write {suffix!r}; choose from {SUFFIXES}")
    made: dict[str, tuple[bytes, Role, int | None]] = {}
    for suffix in formats:
        for file, content in encode_main(asset, f"{asset.name}{suffix}", extras).items():
            made[file] = content, ROLES.get(Path(file).suffix, "mesh"), 0
    in_one_file = asset.report.settings.target == "unity"
    for number, mesh in enumerate(asset.levels[1:], start=1):
        if not in_one_file:
            name = f"{asset.name}_lod{number}"
            made[f"{name}.glb"] = encode([Part(name, mesh)], f"{name}.glb", name, extras)[f"{name}.glb"], "lod", number
    if asset.collision:
        name = f"{asset.name}_collision"
        hulls = [Part(f"{name}_{number}", part, seen=False) for number, part in enumerate(asset.collision)]
        made[f"{name}.glb"] = encode(hulls, f"{name}.glb", name, extras)[f"{name}.glb"], "collision", None
    settings = asset.report.settings
    if settings.compress == "draco":
        compressed = encode_draco_glb(parts_of(asset, settings.target), asset.name, extras)
        made[f"{asset.name}_draco.glb"] = compressed, "compressed", 0
    if settings.thumbnail:
        picture = thumbnail(asset.levels[0], settings.thumbnail)
        made["thumbnail.webp"] = as_webp(picture), "thumbnail", None
    frames = turntable(asset.levels[0], settings.turntable, settings.thumbnail or 512) if settings.turntable else []
    for number, picture in enumerate(frames):
        made[f"turntable_{number:02d}.webp"] = as_webp(picture), "turntable", None
    made["report.json"] = (asset.report.model_dump_json(indent=1) + "\n").encode(), "report", None
    return made


def as_webp(picture: Image.Image) -> bytes:
    """A picture without loss."""
    file = io.BytesIO()
    picture.save(file, format="WEBP", lossless=True)
    return file.getvalue()


def write_package(asset: Asset, folder: Path, formats: Sequence[str], extras: Mapping[str, object]) -> Manifest:
    """Write all files to a folder, the manifest last; each appears whole or not at all."""
    files = []
    for name, (content, role, level) in contents(asset, formats, extras).items():
        with atomic_path(folder / name) as partial:
            partial.write_bytes(content)
        suffix = Path(name).suffix
        shown = level is not None and suffix in SUFFIXES
        files.append(
            File(
                name=name,
                role=role,
                level=level,
                media_type=MEDIA_TYPES[suffix],
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                triangles=len(asset.levels[level].faces) if shown and level is not None else None,
            )
        )
    report = asset.report
    manifest = Manifest(
        generator=report.generator, name=asset.name, prompt=report.prompt, model=report.model,
        target=report.settings.target, axes={suffix: AXES[suffix] for suffix in formats},
        extent_m=report.size.extent_m, files=files,
    )  # fmt: skip
    with atomic_path(folder / "manifest.json") as partial:
        partial.write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest
