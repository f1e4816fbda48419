"""Wavefront OBJ with its MTL: vertex colours for readers that know them, a few plain materials for the others."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from scaledreamer.export.axes import to_y_up
from scaledreamer.export.geometry import Surface, area_vectors
from scaledreamer.export.gltf import encode_png, picture_name
from scaledreamer.export.version import generator

MATERIALS = 16
FINE, COARSE = 32, 6  # bins a channel: tones that are told apart, and the first guess at the materials
ROUNDS = 8


def lines(template: str, rows: np.ndarray) -> str:
    """The template filled in once a row, in one formatting call."""
    return (f"{template}\n" * len(rows)) % tuple(rows.ravel().tolist())


def bins(colors: Float64[np.ndarray, "F 3"], levels: int) -> Int64[np.ndarray, " F"]:
    """For each colour the index of its bin among those that are used, with `levels` bins a channel."""
    numbers = np.rint(colors.clip(0, 1) * (levels - 1)).astype(np.int64) @ np.array([levels * levels, levels, 1])
    return np.unique(numbers, return_inverse=True)[1]


def cluster_colors(
    colors: Float64[np.ndarray, "F 3"], areas: Float64[np.ndarray, " F"]
) -> tuple[Float64[np.ndarray, "M 3"], Int64[np.ndarray, " F"]]:
    """At most MATERIALS colours and the nearest of them for each face: weighted k-means from the commonest colours."""
    tone = bins(colors, FINE)  # faces of one tone stay together, so only the tones are clustered
    tones, weights = weighted_means(colors, areas, tone)
    guesses, sizes = weighted_means(tones, weights, bins(tones, COARSE))
    means = guesses[np.argsort(-sizes, kind="stable")[:MATERIALS]]
    for _ in range(ROUNDS):
        nearest = np.argmin(((tones[:, None] - means) ** 2).sum(axis=-1), axis=1)
        nearest = np.unique(nearest, return_inverse=True)[1]  # a mean that no tone is nearest to falls away
        means, _ = weighted_means(tones, weights, nearest)
    return means, nearest[tone]


def weighted_means(
    colors: Float64[np.ndarray, "F 3"], weights: Float64[np.ndarray, " F"], group: Int64[np.ndarray, " F"]
) -> tuple[Float64[np.ndarray, "G 3"], Float64[np.ndarray, " G"]]:
    """The weighted mean colour of each group, and its weight."""
    total = np.bincount(group, weights=weights)
    sums = [np.bincount(group, weights=weights * colors[:, channel]) for channel in range(3)]
    return np.stack(sums, axis=1) / total[:, None], total


def encode_obj(mesh: Surface, name: str) -> dict[str, bytes]:
    """The materials, the texture where there is one, then the file `name` that refers to them."""
    stem = re.sub(r"[^\w.-]", "_", Path(name).stem)  # OBJ separates words by spaces and has no quotes
    vertices = np.concatenate([to_y_up(mesh.vertices), mesh.colors.clip(0, 1)], axis=1)
    start = [
        f"# {generator()}; +Y up, front +Z; colours are sRGB\nmtllib {stem}.mtl\no {stem}\n",
        lines("v %.7f %.7f %.7f %.4f %.4f %.4f", vertices),
        lines("vn %.5f %.5f %.5f", to_y_up(mesh.normals)),
    ]
    if mesh.texture is None or mesh.uvs is None:
        materials, faces = colored_faces(mesh)
        pictures = {}
    else:
        start.append(lines("vt %.6f %.6f", mesh.uvs))
        picture = picture_name(stem, 0)
        pictures = {picture: encode_png(mesh.texture)}
        materials = [f"newmtl surface\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nd 1\nillum 1\nmap_Kd {picture}\n"]
        corners = np.repeat(mesh.faces + 1, 3, axis=1)
        faces = ["usemtl surface\n", lines("f %d/%d/%d %d/%d/%d %d/%d/%d", corners)]
    library = f"# {generator()}\n" + "\n".join(materials)
    return {**pictures, f"{stem}.mtl": library.encode(), name: "".join(start + faces).encode()}


def colored_faces(mesh: Surface) -> tuple[list[str], list[str]]:
    """A few plain materials that are nearest to the colours at the vertices, and the faces grouped by them."""
    areas = np.linalg.norm(area_vectors(mesh.vertices, mesh.faces), axis=1)
    areas = np.maximum(areas, np.finfo(np.float32).tiny)
    means, group = cluster_colors(mesh.colors.astype(np.float64)[mesh.faces].mean(axis=1), areas)
    faces = []
    for material in range(len(means)):
        corners = np.repeat(mesh.faces[group == material] + 1, 2, axis=1)
        faces += [f"usemtl color_{material}\n", lines("f %d//%d %d//%d %d//%d", corners)]
    materials = [
        f"newmtl color_{i}\nKa 0 0 0\nKd {r:.4f} {g:.4f} {b:.4f}\nKs 0 0 0\nd 1\nillum 1\n"
        for i, (r, g, b) in enumerate(means.tolist())
    ]
    return materials, faces
