"""Pictures of a mesh on a CPU, without a display: shaded as the props world is, on a transparent ground."""

import math
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Float64, Int64
from PIL import Image

from scaledreamer.errors import ExportError
from scaledreamer.export.mesh import Mesh
from scaledreamer.export.raster import covered
from scaledreamer.export.texture import sample_texture
from scaledreamer.model.cameras import Camera, orbit, rays
from scaledreamer.model.rendering.shading import shade

AZIMUTH, ELEVATION, FOVY = math.pi / 8, 0.4, math.radians(40)  # where TextTo3D.picture stands; radians
MARGIN = 0.05  # of the frame's half width
SUPERSAMPLING = 2  # samples a pixel along each axis


@dataclass(frozen=True, eq=False)
class Hits:
    """What a picture's N occupied samples see."""

    sample: Int64[np.ndarray, " N"]  # row * width + column
    face: Int64[np.ndarray, " N"]
    weights: Float64[np.ndarray, "N 3"]  # barycentric, of the face's corners


def thumbnail(mesh: Mesh, pixels: int = 512) -> Image.Image:
    """A square RGBA picture from the front right and slightly above, the whole mesh in the frame."""
    return pictures(mesh, [AZIMUTH], pixels)[0]


def turntable(mesh: Mesh, frames: int, pixels: int) -> list[Image.Image]:
    """A full orbit: RGBA pictures from azimuth 0 (+X) on, counter-clockwise seen from above."""
    return pictures(mesh, [2 * math.pi * frame / frames for frame in range(frames)], pixels)


def pictures(mesh: Mesh, azimuths: list[float], pixels: int) -> list[Image.Image]:
    """One picture an azimuth, all from the smallest distance at which every one holds the whole mesh."""
    if len(mesh.faces) == 0:
        raise ExportError("cannot draw a mesh without faces")
    low, high = (edge.astype(np.float64) for edge in (mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)))
    unit = (mesh.vertices - (low + high) / 2) / ((high - low).max() / 2 or 1.0)
    mesh = replace(mesh, vertices=unit.astype(np.float32))
    distance = max(fitting_distance(mesh, azimuth) for azimuth in azimuths)
    return [draw(mesh, camera_at(azimuth, distance), pixels) for azimuth in azimuths]


def camera_at(azimuth: float, distance: float) -> Camera:
    """One camera that looks at the origin."""
    place = (torch.tensor([x], dtype=torch.float64) for x in (ELEVATION, azimuth, distance, FOVY))
    return orbit(*place)


def fitting_distance(mesh: Mesh, azimuth: float) -> float:
    """The distance from which the outermost vertex of a mesh around the origin lies on the margin's edge."""
    axes = camera_at(azimuth, 1.0).c2w[0, :3, :3].numpy()
    x, y, towards = (mesh.vertices @ axes).T
    slope = (1 - MARGIN) * math.tan(FOVY / 2)
    return float((towards + np.maximum(np.maximum(np.abs(x), np.abs(y)) / slope, 0.5)).max())  # 0.5: not in the eye


def draw(mesh: Mesh, camera: Camera, pixels: int) -> Image.Image:
    """The shaded mesh; alpha is the share of a pixel's samples that it covers."""
    side = pixels * SUPERSAMPLING
    hits = raster(mesh, camera, side)
    rgba = np.zeros((side * side, 4), dtype=np.float32)
    rgba[hits.sample, :3] = surface_color(mesh, hits)
    rgba[hits.sample, 3] = 1
    rgba = rgba.reshape(pixels, SUPERSAMPLING, pixels, SUPERSAMPLING, 4).mean(axis=(1, 3))
    rgba[..., :3] /= np.maximum(rgba[..., 3:], 1 / SUPERSAMPLING**2)  # not premultiplied
    return Image.fromarray(np.rint(rgba.clip(0, 1) * 255).astype(np.uint8), "RGBA")


def surface_color(mesh: Mesh, hits: Hits) -> Float64[np.ndarray, "N 3"]:
    """sRGB in [0, 1]: texture or vertex colour, times the brightness of the interpolated normal."""
    corners = mesh.faces[hits.face]

    def interpolate(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.einsum("nk,nkc->nc", hits.weights, values[corners]))

    if mesh.texture is not None and mesh.uvs is not None:
        color = sample_texture(mesh.texture, interpolate(mesh.uvs))
    else:
        color = interpolate(mesh.colors)
    normals = torch.nn.functional.normalize(torch.from_numpy(interpolate(mesh.normals)), dim=-1)
    return np.asarray(color.clip(0, 1) * shade(normals).numpy())


def raster(mesh: Mesh, camera: Camera, side: int) -> Hits:
    """The nearest face at each of side^2 samples, and where on it; the mesh must lie in front of the camera."""
    face = (cast_rays if find_spec("embreex") else z_buffer)(mesh, camera, side)
    sample = np.flatnonzero(face >= 0)
    origin, directions = camera.position[0].numpy(), rays(camera, side, side)[1].numpy().reshape(-1, 3)
    return Hits(sample, face[sample], weights_at(mesh, face[sample], origin, directions[sample]))


def weights_at(
    mesh: Mesh, face: Int64[np.ndarray, " N"], origin: Float64[np.ndarray, "3"], directions: Float64[np.ndarray, "N 3"]
) -> Float64[np.ndarray, "N 3"]:
    """Barycentric weights where rays meet the planes of their faces, kept inside the face.

    Corners weigh as the volumes of the three tetrahedra that the ray and the face's edges span.
    """
    a, b, c = (mesh.vertices[corner] - origin for corner in mesh.faces[face].T)
    volumes = np.stack([(directions * np.cross(p, q)).sum(axis=1) for p, q in ((b, c), (c, a), (a, b))], axis=1)
    total = volumes.sum(axis=1, keepdims=True)
    weights = (volumes / np.where(total == 0, 1, total)).clip(0, 1)
    total = weights.sum(axis=1, keepdims=True)
    return np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / 3)


def cast_rays(mesh: Mesh, camera: Camera, side: int) -> Int64[np.ndarray, " S"]:
    """The nearest face at each sample, -1 where there is none: Embree's rays (https://www.embree.org)."""
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene(robust=True)  # no leaks along edges
    TriangleMesh(scene, mesh.vertices, mesh.faces.astype(np.int32))
    origins, directions = (x.float().numpy().reshape(-1, 3) for x in rays(camera, side, side))
    return np.asarray(scene.run(np.ascontiguousarray(origins), directions), dtype=np.int64)


def z_buffer(mesh: Mesh, camera: Camera, side: int) -> Int64[np.ndarray, " S"]:
    """The same by projection: of the faces that cover a sample the one with the largest inverse depth.

    In camera space a face's plane is k . p = 1, so 1/depth = k . (x, y, -1) on the ray through (x, y, -1).
    """
    c2w = camera.c2w[0].numpy()
    local = (mesh.vertices - c2w[:3, 3]) @ c2w[:3, :3]
    focal = side / 2 / math.tan(float(camera.fovy[0]) / 2)
    places = local[:, :2] / -local[:, 2:] * [focal, -focal] + side / 2
    a, b, c = (local[corner] for corner in mesh.faces.T)
    normals = np.cross(b - a, c - a)
    offset = (normals * a).sum(axis=1, keepdims=True)
    planes = np.where(offset == 0, 0, normals / np.where(offset == 0, 1, offset))  # 0: seen edge-on, never nearest

    nearest, face = np.zeros(side * side), np.full(side * side, -1)
    for owner, sample in covered(places, mesh.faces, side):
        x, y = (sample % side + 0.5 - side / 2) / focal, (side / 2 - sample // side - 0.5) / focal
        plane = planes[owner]
        inverse = plane[:, 0] * x + plane[:, 1] * y - plane[:, 2]
        np.maximum.at(nearest, sample, inverse)
        first = (inverse > 0) & (inverse == nearest[sample])
        face[sample[first]] = owner[first]
    return face
