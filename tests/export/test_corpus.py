"""Two hundred meshes through all of finishing: props of the default model, fields of every kind, bad meshes."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from trimesh.sample import sample_surface

from scaledreamer import TextTo3D
from scaledreamer.errors import EmptySurfaceError, ExportError
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.export.facts import measure
from scaledreamer.export.finish import Asset, finish_field, finish_mesh
from scaledreamer.export.package import write_package
from scaledreamer.export.presets import AssetSettings, asset_settings
from scaledreamer.export.texture import sample_texture
from scaledreamer.export.unwrap import overlapping_texels
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.generators import build_generator
from scaledreamer.model.generators.conv3d import Conv3DConfig
from scaledreamer.model.generators.hyper_ingp import HyperNGPConfig
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.text import TextEmbedding
from tests.export.fields import FIELDS, Analytic, ball, box, torus, union
from tests.export.test_validator import SCRIPT, node

pytestmark = pytest.mark.slow
COLORS = ("red", "blue", "green", "yellow", "orange", "purple", "pink", "white")
KINDS = (
    "barrel",
    "treasure chest",
    "pine tree",
    "potion bottle",
    "mushroom",
    "chair",
    "table",
    "house",
    "mug",
    "rocket",
)
SIZES = ("", "tall ", "wide ", "small ")


def settings_of(number: int) -> AssetSettings:
    """Small enough for two hundred of them; the presets take turns."""
    given = {
        "resolution": 64,
        "texture": 256,
        "lods": 2,
        "thumbnail": 0,
        "collision_budget_s": 60,
        "unwrap_budget_s": 120,
    }
    match number % 5:
        case 4:
            return asset_settings("print", **{**given, "texture": 0, "lods": 0})
        case 3:
            return asset_settings("mobile", **given)
        case _:
            return asset_settings("prop", **{**given, "faces": 3000})


def props() -> Iterator[tuple[str, Field]]:
    """A hundred and ten prompts of the default model."""
    pipe = TextTo3D.load()
    for number in range(110):
        prompt = f"a {SIZES[number // 7 % 4]}{COLORS[number % 8]} {KINDS[number % 10]}"
        yield prompt, pipe.fields([prompt])


def others() -> Iterator[tuple[str, Field]]:
    """Forty fields of official triplanes, 3DConv-Net and Hyper-iNGP, untrained, and a dozen that are known exactly."""
    rng = torch.Generator().manual_seed(0)
    for number in range(14):
        heads = [[torch.randn(o, i, generator=rng) / i**0.5 for o, i in ((64, 96), (64, 64), (n, 64))] for n in (1, 3)]
        planes = (0.05 + 0.02 * number) * torch.randn(1, 3, 32, 64, 64, generator=rng)
        yield f"untrained triplane {number}", TriplaneField.from_weights(planes, heads[0], heads[1])
    torch.manual_seed(0)
    conv = build_generator(Conv3DConfig(text_width=8, noise_width=4, style_width=16, channels=(16, 16, 8, 8)))
    grid = HashGridConfig(levels=6, log2_entries=12, base=4, growth=1.5)
    hyper = build_generator(HyperNGPConfig(text_width=8, width=16, layers=1, grid=grid, hidden=16))
    with torch.no_grad():
        hyper.grid.params.uniform_(-0.3, 0.3)
        for number in range(14):
            text = TextEmbedding(torch.randn(1, 4, 8), torch.randn(1, 8), torch.ones(1, 4, dtype=torch.bool))
            yield f"untrained 3DConv-Net {number}", conv(text, noise=torch.randn(1, 4))
            yield f"untrained Hyper-iNGP {number}", hyper(text)
    for name in FIELDS:
        yield name, FIELDS[name]


def mesh_of(vertices: object, faces: object) -> Mesh:
    vertices, faces = np.array(vertices, np.float32).reshape(-1, 3), np.array(faces, np.int64).reshape(-1, 3)
    return Mesh(vertices, faces, np.full((len(vertices), 3), 0.4, np.float32))


def of_trimesh(mesh: trimesh.Trimesh) -> Mesh:
    return mesh_of(mesh.vertices, mesh.faces)


def joined(*meshes: Mesh) -> Mesh:
    """Meshes side by side in one."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    return mesh_of(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces))


def bad_meshes() -> Iterator[tuple[str, Mesh]]:
    """Meshes as other programs leave them."""
    cube = of_trimesh(trimesh.creation.box((1, 1, 1)))
    round_one = extract_mesh(Analytic((ball(),)), 40)
    rng = np.random.default_rng(0)
    yield "300,000 faces", of_trimesh(trimesh.creation.uv_sphere(count=(275, 275)))
    yield "two cubes that share an edge", joined(cube, mesh_of(cube.vertices + np.array([1, 1, 0]), cube.faces))
    yield "two cubes that share a corner", joined(cube, mesh_of(cube.vertices + 1, cube.faces))
    yield "two cubes that share a face", joined(cube, mesh_of(cube.vertices + np.array([1, 0, 0]), cube.faces))
    yield "a cube twice", joined(cube, cube)
    yield "a cube inside out", mesh_of(cube.vertices, cube.faces[:, ::-1])
    yield (
        "a cube with some faces flipped",
        mesh_of(cube.vertices, np.concatenate([cube.faces[:5], cube.faces[5:, ::-1]])),
    )
    yield "a cube in another", joined(cube, mesh_of(cube.vertices * 0.5, cube.faces[:, ::-1]))
    yield (
        "a soup of single triangles",
        mesh_of(round_one.vertices[round_one.faces], np.arange(3 * len(round_one.faces))),
    )
    yield (
        "a fin on a ball",
        joined(round_one, mesh_of([round_one.vertices[0], round_one.vertices[1], [2, 2, 2]], [[0, 1, 2]])),
    )
    for number in range(8):
        keep = rng.random(len(round_one.faces)) > 0.002 * (number + 1)
        yield f"holes {number}", mesh_of(round_one.vertices, round_one.faces[keep])
    for number in range(6):
        flipped = np.where(
            rng.random((len(round_one.faces), 1)) < 0.1 * number, round_one.faces[:, ::-1], round_one.faces
        )
        yield f"flipped {number}", mesh_of(round_one.vertices, flipped)
    for number in range(6):
        again = round_one.faces[rng.integers(0, len(round_one.faces), 20 * number)]
        yield f"copies of faces {number}", mesh_of(round_one.vertices, np.concatenate([round_one.faces, again]))
    yield "one triangle", mesh_of([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    yield "empty", mesh_of([], [])
    yield "a flat square", mesh_of([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    yield "a line", mesh_of([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]])
    yield "a torus", extract_mesh(Analytic((torus(thickness=0.1),)), 60)
    yield "far from the origin", mesh_of(round_one.vertices + 1000, round_one.faces)
    yield "tiny", mesh_of(round_one.vertices * 1e-5, round_one.faces)
    yield "huge", mesh_of(round_one.vertices * 1e5, round_one.faces)
    yield "a needle", mesh_of(round_one.vertices * [1, 0.01, 0.01], round_one.faces)
    yield "a sheet", mesh_of(round_one.vertices * [1, 1, 0.005], round_one.faces)
    yield (
        "many balls",
        extract_mesh(
            Analytic((union(*(ball(*p, radius=0.14) for p in rng.uniform(-0.8, 0.8, (20, 3)).tolist())),)), 64
        ),
    )
    yield "against the border", extract_mesh(Analytic((box((-2, -2, -0.3), (0.2, 2, 0.3)),)), 40)


def lab(srgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of sRGB in [0, 1]."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ matrix.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def color_difference(asset: Asset, field: Field) -> float:
    """The 99th percentile of the difference between picture and field at a thousand points of the surface."""
    mesh = asset.levels[0]
    assert mesh.uvs is not None and mesh.texture is not None
    seen = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points, faces = sample_surface(seen, 1000, seed=0)
    weights = trimesh.triangles.points_to_barycentric(seen.triangles[faces], points)[..., None]
    uvs = (mesh.uvs[mesh.faces[faces]] * weights).sum(axis=1)
    placed = asset.placement
    places = torch.from_numpy(((points - placed.offset) / placed.scale).astype(np.float32))
    with torch.no_grad():
        said = field.rgb(places[None])[0].clamp(0, 1).numpy().astype(np.float64)
    return float(np.quantile(np.linalg.norm(lab(sample_texture(mesh.texture, uvs)) - lab(said), axis=1), 0.99))


def faults_of(asset: Asset, field: Field | None) -> list[str]:
    """What an asset does not keep of what is promised."""
    faults, settings = [], asset.report.settings
    for number, level in enumerate(asset.levels):
        facts = measure(level)
        if not (facts.watertight and facts.winding_consistent and facts.nonmanifold_edges == 0):
            faults.append(f"level {number} is not closed: {facts}")
        if level.uvs is not None and (
            level.uvs.min() < 0 or level.uvs.max() > 1 or overlapping_texels(level, len(level.texture))
        ):
            faults.append(f"level {number}: places in the texture overlap or lie outside")
    counts = [len(level.faces) for level in asset.levels]
    if settings.faces is not None and counts[0] > 1.02 * settings.faces:
        faults.append(f"{counts[0]} faces for a budget of {settings.faces}")
    if sorted(set(counts), reverse=True) != counts:
        faults.append(f"levels of {counts} faces")
    low, high = asset.levels[0].vertices.min(axis=0), asset.levels[0].vertices.max(axis=0)
    size = float((high - low).max())
    if low[2] != 0 or np.abs(low[:2] + high[:2]).max() > 2e-6 * size:
        faults.append(f"pivot: {low} to {high}")
    if asset.collision:
        points, _ = sample_surface(trimesh.Trimesh(asset.levels[0].vertices, asset.levels[0].faces), 1000, seed=0)
        inside = np.zeros(len(points), dtype=bool)
        for part in asset.collision:
            hull = trimesh.Trimesh(part.vertices, part.faces)
            if not hull.is_convex or len(part.vertices) > 64:
                faults.append("a collision part is not convex, or has too many vertices")
            away = ((points[:, None] - hull.triangles_center) * hull.face_normals).sum(-1)
            inside |= (away < 1e-3 * size).all(axis=1)
        if inside.mean() < 0.98:
            faults.append(f"collision holds {inside.mean():.3f} of the surface")
    if field is not None and settings.texture:
        difference = color_difference(asset, field)
        if difference > 3:
            faults.append(f"colour differs by {difference:.2f}")
    return faults


def test_two_hundred_meshes_become_assets(tmp_path: Path) -> None:
    made, refused, faults = 0, [], []
    cases = [
        *((name, field, None) for name, field in (*props(), *others())),
        *((name, None, mesh) for name, mesh in bad_meshes()),
    ]
    assert len(cases) >= 200
    for number, (name, field, mesh) in enumerate(cases):
        settings = settings_of(number)
        try:
            asset = (
                finish_field(field, settings, name, "props") if field is not None else finish_mesh(mesh, settings, name)
            )
        except (EmptySurfaceError, ExportError) as error:
            refused.append(f"{name}: {error}")
            continue
        made += 1
        faults += [f"{name}: {fault}" for fault in faults_of(asset, field)]
        write_package(asset, tmp_path / str(number), [".glb"], {"prompt": name})
    files = sorted(map(str, tmp_path.glob("*/*.glb")))
    for start in range(0, len(files), 50):
        answer = subprocess.run(
            [node(), SCRIPT, *files[start : start + 50]], capture_output=True, text=True, check=True
        )
        for path, line in zip(files[start : start + 50], answer.stdout.splitlines(), strict=True):
            issues = json.loads(line)["issues"]
            if issues["numErrors"] or issues["numWarnings"] or issues["numInfos"] or issues["numHints"]:
                faults.append(f"{path}: {issues['messages'][:3]}")
    print(f"{made} of {len(cases)} became assets; refused: {refused}; faults: {faults}")
    assert made >= 0.95 * len(cases) and not faults
