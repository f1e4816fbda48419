"""Places in a texture for the faces of a mesh: xatlas in a process of its own, or a plain grid when that fails."""

import io
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32, Int64

from scaledreamer.errors import ExportError
from scaledreamer.export.child import ChildError, ask
from scaledreamer.export.mesh import Mesh
from scaledreamer.export.raster import covered, refuse_size, to_texels

MAX_FACES = 100_000  # xatlas's time grows faster than the mesh
ROUNDS = 4  # of cutting off faces that overlap
WORKER = Path(__file__).with_name("unwrap_worker.py")


@dataclass(frozen=True, eq=False)
class Unwrapped:
    """A mesh with uvs, and how they came about."""

    mesh: Mesh  # faces in their order; vertices repeated along seams
    degraded: str | None  # why xatlas's atlas is not used; every face then lies by itself on a grid
    seconds: float


def unwrap(mesh: Mesh, texture_size: int, gutter_px: int, budget_s: float) -> Unwrapped:
    """The mesh with uvs inside (0, 1): no two faces overlap, charts lie `gutter_px` texels apart and half of that from
    the border, less where the texture is too small for it. After `budget_s` seconds xatlas is given up.
    """
    refuse_size(texture_size)
    if len(mesh.faces) == 0:
        raise ExportError("cannot unwrap a mesh without faces")
    start = time.monotonic()
    try:
        unwrapped, degraded = by_xatlas(mesh, texture_size, gutter_px, budget_s), None
    except ChildError as error:
        unwrapped, degraded = by_grid(mesh, texture_size, gutter_px), f"xatlas made no atlas: {error}"
    return Unwrapped(unwrapped, degraded, time.monotonic() - start)


def with_uvs(
    mesh: Mesh, source: Int64[np.ndarray, " W"], faces: Int64[np.ndarray, "F 3"], uvs: Float32[np.ndarray, "W 2"]
) -> Mesh:
    """The mesh with its vertices in the order of `source`, repeated where they are named twice."""
    vertices, colors, normals = mesh.vertices[source], mesh.colors[source], mesh.normals[source]
    return replace(mesh, vertices=vertices, faces=faces, colors=colors, normals=normals, uvs=uvs, texture=None)


def by_xatlas(mesh: Mesh, size: int, gutter: int, budget_s: float) -> Mesh:
    """Charts with little stretch (https://github.com/jpcy/xatlas); ChildError says why there are none.

    Where xatlas folds a chart over itself the faces that overlap are cut off, each to a place of its own.
    """
    if len(mesh.faces) > MAX_FACES:
        raise ChildError(f"the mesh has {len(mesh.faces)} faces, and it is given at most {MAX_FACES}")
    end, loose = time.monotonic() + budget_s, np.zeros(0, dtype=np.int64)
    for _ in range(ROUNDS):
        unwrapped = ask_xatlas(mesh, size, gutter, loose, end - time.monotonic())
        overlapping = overlapping_faces(unwrapped, size)
        if len(overlapping) == 0:
            return unwrapped
        loose = np.union1d(loose, overlapping)
    raise ChildError(f"{len(overlapping)} of its faces overlap")


def ask_xatlas(mesh: Mesh, size: int, gutter: int, loose: Int64[np.ndarray, " N"], budget_s: float) -> Mesh:
    """The mesh with xatlas's uvs, the loose faces each for itself; they may overlap."""
    question = io.BytesIO()
    np.savez(question, vertices=mesh.vertices, faces=mesh.faces, size=size, gutter=gutter, loose=loose)
    command = [sys.executable, "-P", str(WORKER), str(budget_s)]  # -P: numpy must not meet our modules' names
    try:
        with np.load(io.BytesIO(ask(command, question.getvalue(), budget_s)), allow_pickle=False) as answer:
            source, faces, uvs = answer["source"], answer["faces"], answer["uvs"]
    except (BadZipFile, EOFError, KeyError, OSError, ValueError) as error:
        raise ChildError(f"its answer cannot be read: {error}") from error
    if not np.array_equal(source[faces], mesh.faces):
        raise ChildError("its faces are not those of the mesh")
    if not ((uvs > 0) & (uvs < 1)).all():
        raise ChildError("its vertices leave the texture")
    return with_uvs(mesh, source, faces, uvs)


def by_grid(mesh: Mesh, size: int, gutter: int) -> Mesh:
    """Two faces a square cell, each half of it less the gutter: every face has a seam all around and the same room."""
    count = len(mesh.faces)
    side = int(np.ceil(np.sqrt(np.ceil(count / 2))))
    cell = size / side
    margin = min(gutter / 2, 0.2 * cell)
    leg = cell - (2 + np.sqrt(2)) * margin  # so the long sides of a cell's two faces lie 2 margins apart
    second = np.arange(count) % 2 == 1
    row, column = np.divmod(np.arange(count) // 2, side)
    sign = np.where(second, -1, 1)[:, None]
    right_angle = np.stack([column, row], axis=1) * cell + np.where(second, cell - margin, margin)[:, None]
    x_axis, y_axis = np.array([leg, 0.0]), np.array([0.0, leg])
    places = np.stack([right_angle, right_angle + sign * x_axis, right_angle + sign * y_axis], axis=1)

    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    opposite = np.linalg.norm(np.roll(corners, -1, axis=1) - np.roll(corners, 1, axis=1), axis=2)
    turned = (np.arange(3) - opposite.argmax(axis=1)[:, None]) % 3  # the longest side becomes the long side
    uvs = np.take_along_axis(places, turned[:, :, None], axis=1).reshape(-1, 2) / size
    return with_uvs(mesh, mesh.faces.ravel(), np.arange(3 * count).reshape(-1, 3), uvs.astype(np.float32))


def uv_utilisation(mesh: Mesh) -> float:
    """Share of the atlas that faces cover, from 0 to 1, if no two overlap."""
    if mesh.uvs is None:
        raise ExportError("the mesh has no uvs; unwrap it first")
    a, b, c = mesh.uvs.astype(np.float64)[mesh.faces.T]
    (ux, uy), (vx, vy) = (b - a).T, (c - a).T
    return float(np.abs(ux * vy - uy * vx).sum() / 2)


def overlapping_faces(mesh: Mesh, size: int) -> Int64[np.ndarray, " N"]:
    """The faces that cover the centre of a texel of an atlas of size^2 that another face covers too."""
    if mesh.uvs is None:
        raise ExportError("the mesh has no uvs; unwrap it first")
    found = [np.stack(pair) for pair in covered(to_texels(mesh.uvs, size), mesh.faces, size)]
    face, texel = np.concatenate([np.zeros((2, 0), dtype=np.int64), *found], axis=1)
    return np.unique(face[np.bincount(texel, minlength=size * size)[texel] > 1])
