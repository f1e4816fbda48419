"""Two hundred surfaces to finish: props of the default model, fields of other kinds, meshes as other programs leave
them.
"""

from collections.abc import Iterator

import numpy as np
import torch
import trimesh

from scaledreamer import TextTo3D
from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.model.fields.base import Field
from scaledreamer.model.fields.triplane import TriplaneField
from scaledreamer.model.generators import build_generator
from scaledreamer.model.generators.conv3d import Conv3DConfig
from scaledreamer.model.generators.hyper_ingp import HyperNGPConfig
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.text import TextEmbedding
from tests.export.fields import FIELDS, Analytic, ball, box, torus, union
from tests.export.shapes import cube, joined, mesh_of, sphere, turned_over

SIZES = ("", "tall ", "wide ", "small ")
COLORS = ("red", "blue", "green", "yellow", "orange", "purple", "pink", "white")
KINDS = (
    "barrel", "treasure chest", "pine tree", "potion bottle", "mushroom", "chair", "table", "house", "mug", "rocket",
)  # fmt: skip


def props() -> Iterator[tuple[str, Field]]:
    """110 prompts of the default model."""
    pipe = TextTo3D.load()
    for number in range(110):
        prompt = f"a {SIZES[number // 7 % 4]}{COLORS[number % 8]} {KINDS[number % 10]}"
        yield prompt, pipe.fields([prompt])


def fields() -> Iterator[tuple[str, Field]]:
    """14 each of official triplanes, 3DConv-Net and Hyper-iNGP, none of them trained, and 12 that are known exactly."""
    rng = torch.Generator().manual_seed(0)
    for number in range(14):
        sdf, rgb = (
            [torch.randn(o, i, generator=rng) / i**0.5 for o, i in ((64, 96), (64, 64), (n, 64))] for n in (1, 3)
        )
        planes = (0.05 + 0.02 * number) * torch.randn(1, 3, 32, 64, 64, generator=rng)
        yield f"triplane {number}", TriplaneField.from_weights(planes, sdf, rgb)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        conv = build_generator(Conv3DConfig(text_width=8, noise_width=4, style_width=16, channels=(16, 16, 8, 8)))
        grid = HashGridConfig(levels=6, log2_entries=12, base=4, growth=1.5)
        hyper = build_generator(HyperNGPConfig(text_width=8, width=16, layers=1, grid=grid, hidden=16))
        hyper.grid.params.uniform_(-0.3, 0.3)
        for number in range(14):
            text = TextEmbedding(torch.randn(1, 4, 8), torch.randn(1, 8), torch.ones(1, 4, dtype=torch.bool))
            yield f"3DConv-Net {number}", conv(text, noise=torch.randn(1, 4))
            yield f"Hyper-iNGP {number}", hyper(text)
    yield from FIELDS.items()


def bad_meshes() -> Iterator[tuple[str, Mesh]]:
    """42 meshes that are crowded, open, turned, doubled, flat, or far too large or small."""
    fine, round_one, rng = trimesh.creation.uv_sphere(count=(275, 275)), sphere(4), np.random.default_rng(0)
    places, faces = round_one.vertices, round_one.faces
    yield "300,000 faces", mesh_of(fine.vertices, fine.faces)
    yield "two cubes that share an edge", joined(cube(), cube(1, 1))
    yield "two cubes that share a corner", joined(cube(), cube(1, 1, 1))
    yield "two cubes that share a face", joined(cube(), cube(1))
    yield "a cube twice", joined(cube(), cube())
    yield "a cube inside out", turned_over(cube())
    turned = np.where(np.arange(12)[:, None] < 5, cube().faces, cube().faces[:, ::-1])
    yield "a cube with some faces turned", mesh_of(cube().vertices, turned)
    yield "a cube around a hollow", joined(cube(side=2), turned_over(cube(0.5, 0.5, 0.5)))
    yield "single triangles", mesh_of(places[faces], np.arange(faces.size))
    yield "a fin on a ball", joined(round_one, mesh_of([*places[faces[0, :2]], [2, 2, 2]], [[0, 1, 2]]))
    for number in range(8):
        yield f"holes {number}", mesh_of(places, faces[rng.random(len(faces)) > 0.002 * (number + 1)])
    for number in range(6):
        some = rng.random((len(faces), 1)) < 0.1 * number
        yield f"turned faces {number}", mesh_of(places, np.where(some, faces[:, ::-1], faces))
    for number in range(6):
        again = rng.choice(faces, 20 * number)
        yield f"copies of faces {number}", mesh_of(places, np.concatenate([faces, again]))
    yield "one triangle", mesh_of([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    yield "empty", mesh_of([], [])
    yield "a flat square", mesh_of([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    yield "a line", mesh_of([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]])
    yield "far from the origin", mesh_of(places + 1000, faces)
    yield "tiny", mesh_of(places * 1e-5, faces)
    yield "huge", mesh_of(places * 1e5, faces)
    balls = (ball(*place, radius=0.14) for place in rng.uniform(-0.8, 0.8, (20, 3)).tolist())
    yield "many balls", extract_mesh(Analytic((union(*balls),)), 64)
    yield "against the border", extract_mesh(Analytic((box((-2, -2, -0.3), (0.2, 2, 0.3)),)), 40)
    yield "a torus", extract_mesh(Analytic((torus(thickness=0.1),)), 60)
    yield "a needle", mesh_of(places * [1, 0.01, 0.01], faces)
    yield "a sheet", mesh_of(places * [1, 1, 0.005], faces)
