"""A field's colour as the texture of a mesh that has uvs."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float64, UInt8
from scipy.ndimage import distance_transform_edt

from scaledreamer.errors import ExportError
from scaledreamer.export.color import linear_to_srgb, srgb_to_linear
from scaledreamer.export.edges import edges_of, ends
from scaledreamer.export.mesh import Mesh
from scaledreamer.export.points import colors_at
from scaledreamer.export.raster import beside, centers, covered, refuse_size, to_texels
from scaledreamer.model.fields.base import Field


def bake(field: Field, mesh: Mesh, size: int) -> Mesh:
    """The mesh with a texture of size^2 texels, each the colour of scene 0 where its centre lies on the surface.

    The mesh must lie where the field is: in object space. A texel beyond a chart's border takes the nearest point of
    the border, so that bilinear samples on the border are right; all others repeat the nearest texel that has a colour.
    """
    refuse_size(size)
    if mesh.uvs is None:
        raise ExportError("cannot bake a texture for a mesh without uvs; unwrap it first")
    scene = field[0]
    places, vertices = to_texels(mesh.uvs, size), mesh.vertices.astype(np.float64)
    texture = np.zeros((size * size, 3), dtype=np.uint8)
    free = np.ones(size * size, dtype=bool)
    for face, texel in covered(places, mesh.faces, size):
        weights = barycentric(places[mesh.faces[face]], centers(texel, size))
        texture[texel] = color_bytes(scene, (weights[:, :, None] * vertices[mesh.faces[face]]).sum(axis=1))
        free[texel] = False

    seams = ends(mesh.faces, edges_of(mesh.faces).at(1)[:, 0])[:2].T  # edges that only one face has: charts end there
    seam, texel, place = beside(places[seams], free, size)
    start, end = vertices[seams[seam]].transpose(1, 0, 2)
    texture[texel] = color_bytes(scene, start + place[:, None] * (end - start))
    free[texel] = False
    if free.all():
        raise ExportError("cannot bake a texture: no face of the mesh has an area in the atlas")
    row, column = distance_transform_edt(free.reshape(size, size), return_distances=False, return_indices=True)
    return replace(mesh, texture=texture.reshape(size, size, 3)[row, column])


def barycentric(
    corners: Float64[np.ndarray, "N 3 2"], points: Float64[np.ndarray, "N 2"]
) -> Float64[np.ndarray, "N 3"]:
    """Weights of a triangle's corners at a point inside it; they are not negative and sum to one."""
    to_corners = corners - points[:, None]
    x, y = np.roll(to_corners, -1, axis=1), np.roll(to_corners, 1, axis=1)
    areas = np.abs(x[..., 0] * y[..., 1] - x[..., 1] * y[..., 0])  # of the triangle opposite each corner, twice
    weights: Float64[np.ndarray, "N 3"] = areas / np.maximum(areas.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return weights


def color_bytes(field: Field, points: Float64[np.ndarray, "N 3"]) -> UInt8[np.ndarray, "N 3"]:
    """sRGB colour of scene 0 at points."""
    colors: UInt8[np.ndarray, "N 3"] = np.rint(colors_at(field, points.astype(np.float32)) * 255).astype(np.uint8)
    return colors


def sample_texture(texture: UInt8[np.ndarray, "S S 3"], uvs: Float[np.ndarray, "N 2"]) -> Float64[np.ndarray, "N 3"]:
    """sRGB colour in [0, 1] at uvs as a glTF viewer shows it: bilinear, in linear light, clamped at the border."""
    size = len(texture)
    x, y = (to_texels(uvs, size) - 0.5).T
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    linear = np.zeros((len(uvs), 3))
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight = np.abs(1 - dx - (x - column)) * np.abs(1 - dy - (y - row))
        texel = texture[(row + dy).clip(0, size - 1), (column + dx).clip(0, size - 1)]
        linear += weight[:, None] * srgb_to_linear(texel / 255)
    return linear_to_srgb(linear)
