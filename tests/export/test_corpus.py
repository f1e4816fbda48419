"""Two hundred surfaces through all of finishing: what is promised of an asset holds on every one, as it is written."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from jaxtyping import Float
from trimesh.sample import sample_surface

from scaledreamer.errors import ScaleDreamerError
from scaledreamer.export import Mesh
from scaledreamer.export.facts import measure
from scaledreamer.export.finish import Asset, finish_field, finish_mesh
from scaledreamer.export.hull import CORNERS
from scaledreamer.export.package import write_package
from scaledreamer.export.presets import AssetSettings, asset_settings
from scaledreamer.export.texture import sample_texture
from scaledreamer.model.fields.base import Field
from tests.export import corpus
from tests.export.atlases import times_covered
from tests.export.test_repair import bounds_a_solid, solid
from tests.export.test_texture import lab
from tests.export.test_validator import SCRIPT, node

SMALL = {"resolution": 64, "texture": 512, "lods": 2, "thumbnail": 0, "collision_budget_s": 120, "unwrap_budget_s": 240}


def settings_of(number: int) -> AssetSettings:
    """The presets take turns, small enough for two hundred assets, with a hundred texels a face as at full size."""
    if number % 40 == 20:
        return asset_settings("hero", **{**SMALL, "faces": 6000})
    match number % 5:
        case 3:
            return asset_settings("mobile", **SMALL)
        case 4:
            return asset_settings("print", **{**SMALL, "texture": 0, "lods": 0})
        case _:
            return asset_settings("prop", **{**SMALL, "faces": 3000})


def faults_of(asset: Asset, field: Field | None) -> Iterator[str]:
    """What an asset does not keep of what is promised."""
    for number, level in enumerate(asset.levels):
        facts, read = measure(level), solid(level)
        if not (facts.watertight and facts.winding_consistent and facts.degenerate_faces == 0 and facts.volume >= 0):
            yield f"level {number} is no closed surface: {facts}"
        if not (read.is_watertight and read.is_winding_consistent and bounds_a_solid(level)):
            yield f"level {number} bounds no solid for other programs"
        if level.uvs is not None and not ((level.uvs >= 0) & (level.uvs <= 1)).all():
            yield f"level {number} leaves its texture"
        if level.texture is not None and (times_covered(level, len(level.texture)) > 1).any():
            yield f"faces of level {number} overlap in its texture"
        if level.texture is not None and field is not None:
            share = 0.99 if number == 0 else 0.95  # a coarser level has half the texels a side
            if (apart := np.quantile(color_differences(asset, number, field), share)) > 3:
                yield f"the colour of level {number} is {apart:.2f} off"
    yield from faults_of_sizes(asset)
    if asset.collision:
        yield from faults_of_hulls(asset)


def faults_of_sizes(asset: Asset) -> Iterator[str]:
    """Face counts and pivot."""
    counts, budget = [len(level.faces) for level in asset.levels], asset.report.settings.faces
    simplified = any(step.step == "simplify" for step in asset.report.steps)
    if budget is not None and not (0.98 * budget if simplified else 0) <= counts[0] <= budget:
        yield f"{counts[0]} faces for a budget of {budget}"
    if counts != sorted(set(counts), reverse=True):
        yield f"levels of {counts} faces"
    low, high = asset.levels[0].vertices.min(axis=0), asset.levels[0].vertices.max(axis=0)
    if low[2] != 0 or np.abs(low[:2] + high[:2]).max() > 1e-6 * (high - low).max():
        yield f"a pivot that is not the middle of the ground: {low} to {high}"


def faults_of_hulls(asset: Asset) -> Iterator[str]:
    """Convexity, corners, and how many of 10,000 points of the surface are outside of every hull."""
    whole = asset.levels[0]
    points, _ = sample_surface(trimesh.Trimesh(whole.vertices, whole.faces), 10_000, seed=0)
    near = 2e-4 * np.ptp(whole.vertices, axis=0).max()
    inside = np.zeros(len(points), dtype=bool)
    for part in asset.collision:
        hull = trimesh.Trimesh(part.vertices, part.faces)
        if not hull.is_convex or not hull.is_watertight or len(part.vertices) > CORNERS:
            yield f"a collision part of {len(part.vertices)} corners, convex: {hull.is_convex}"
        beyond = (points[:, None] - hull.triangles_center) @ hull.face_normals.T
        inside |= (np.diagonal(beyond, axis1=1, axis2=2) <= near).all(axis=1)
    if inside.mean() < 0.98:
        yield f"the hulls hold {inside.mean():.3f} of the surface"


def color_differences(asset: Asset, number: int, field: Field) -> Float[np.ndarray, " N"]:
    """CIE76 difference of a level's texture and the field at a thousand points of the surface.

    The largest has no bound, and nothing is asserted of it: where the field changes its colour within a texel, as
    between a wall and its roof, the texture blends the two.
    """
    mesh = asset.levels[number]
    assert mesh.uvs is not None and mesh.texture is not None
    seen = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points, face = sample_surface(seen, 1000, seed=0)
    weights = trimesh.triangles.points_to_barycentric(seen.triangles[face], points)[..., None]
    shown = sample_texture(mesh.texture, (mesh.uvs[mesh.faces[face]] * weights).sum(axis=1))
    places = (points - asset.placement.offset) / asset.placement.scale
    with torch.no_grad():
        said = field[0].rgb(torch.from_numpy(places).float()[None])[0].clamp(0, 1).double().numpy()
    return np.linalg.norm(lab(shown) - lab(said), axis=1)


def validator_faults(paths: list[Path]) -> Iterator[str]:
    """What the Khronos validator has to say, down to hints: nothing."""
    for start in range(0, len(paths), 50):
        some = paths[start : start + 50]
        answer = subprocess.run([node(), SCRIPT, *some], capture_output=True, text=True, timeout=300, check=True)
        for path, line in zip(some, answer.stdout.splitlines(), strict=True):
            if messages := json.loads(line)["issues"]["messages"]:
                yield f"{path.name}: {messages[:3]}"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("surfaces", "count", "refused"),
    [
        (corpus.props, 110, {}),
        (corpus.fields, 54, {}),
        (corpus.bad_meshes, 42, {"empty": "no faces", "a line": "degenerate", "one triangle": "encloses nothing"}),
    ],
)
def test_surfaces_become_assets_or_are_refused_clearly(
    surfaces: Callable[[], Iterator[tuple[str, Field | Mesh]]], count: int, refused: dict[str, str], tmp_path: Path
) -> None:
    faults, reasons, seconds = list[str](), dict[str, str](), dict[str, float]()
    for number, (name, surface) in enumerate(surfaces()):
        settings, began = settings_of(number), time.monotonic()
        field = None if isinstance(surface, Mesh) else surface
        try:
            if isinstance(surface, Mesh):
                asset = finish_mesh(surface, settings, name)
            else:
                asset = finish_field(surface, settings, name, "props")
        except ScaleDreamerError as error:
            reasons[name] = str(error)
            continue
        seconds[f"{number}: {name}"] = time.monotonic() - began
        faults += [f"{name}: {fault}" for fault in faults_of(asset, field)]
        write_package(asset, tmp_path / f"{number}", [".glb"], {"prompt": name})
    files = sorted(tmp_path.glob("*/*.glb"))
    faults += validator_faults(files)
    slowest = sorted(seconds, key=lambda name: -seconds[name])[:3]
    print(
        f"{len(seconds)} assets, {len(files)} files, {sum(seconds.values()):.0f} s,",
        {n: round(seconds[n]) for n in slowest},
    )
    assert faults == [] and len(seconds) + len(reasons) == count and reasons.keys() == refused.keys()
    assert all(refused[name] in reason for name, reason in reasons.items())
