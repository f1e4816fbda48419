"""Extraction against what others do, alternating in one process, one thread, CPU-seconds, colours included.

python benchmarks/extraction.py [--pairs 5] [--quick]

Baselines: the official algorithm (every lattice point in chunks of 320,000, the three planes read bilinearly and
concatenated, perceptron, sphere bias; PyMCubes; colours asked at the vertices), the same with its best chunk, and
multiresolution iso-surface extraction over occupancy (MISE, Occupancy Networks, CVPR 2019). Each row says how often the
product is faster, in the median of pairs, and whether the faces are the same.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import mcubes
import numpy as np
import teapot
import torch
from scipy.spatial import cKDTree

from scaledreamer.export import Mesh, extract_mesh
from scaledreamer.model.fields.triplane import TriplaneField

BEST_CHUNK = 16_384


@torch.no_grad()
def official(field: TriplaneField, resolution: int, chunk: int = 320_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, faces and colours as the official code would make them."""
    axis = torch.linspace(-field.bound, field.bound, resolution)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
    sdf = torch.cat([field.sdf(points[None, start : start + chunk])[0, :, 0] for start in range(0, len(points), chunk)])
    return surface(field, sdf.numpy().reshape((resolution,) * 3), chunk)


@torch.no_grad()
def surface(field: TriplaneField, sdf: np.ndarray, chunk: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PyMCubes over a volume, then the colours of its vertices."""
    places, faces = mcubes.marching_cubes(sdf, 0.0)
    vertices = (field.bound * (2 * places / (len(sdf) - 1) - 1)).astype(np.float32)
    points = torch.from_numpy(vertices)
    parts = [field.query(points[None, start : start + chunk]).rgb[0] for start in range(0, len(points), chunk)]
    return vertices, faces.astype(np.int64), torch.cat(parts).numpy()


@torch.no_grad()
def mise(field: TriplaneField, resolution: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From every 8th point on, voxels whose corners disagree are halved; the others keep what interpolation says."""
    last = -(-(resolution - 1) // 8) * 8
    cell = 2 * field.bound / (resolution - 1)
    values = np.zeros((last + 1,) * 3, dtype=np.float32)
    known = np.zeros(values.shape, dtype=bool)
    wanted = np.zeros(values.shape, dtype=bool)
    wanted[::8, ::8, ::8] = True
    for step in (8, 4, 2, 1):
        asked = np.argwhere(wanted & ~known)
        points = torch.from_numpy((asked * cell - field.bound).astype(np.float32))
        parts = [field.sdf(points[None, i : i + BEST_CHUNK])[0, :, 0] for i in range(0, len(points), BEST_CHUNK)]
        values[tuple(asked.T)] = torch.cat(parts).numpy() if parts else 0
        known[tuple(asked.T)] = True
        if step == 1:
            break
        inside = values[::step, ::step, ::step] < 0
        corners = [
            inside[x : len(inside) - 1 + x, y : len(inside) - 1 + y, z : len(inside) - 1 + z]
            for x, y, z in np.ndindex(2, 2, 2)
        ]
        crossed = np.argwhere(np.any(corners, axis=0) & ~np.all(corners, axis=0)) * step
        half = step // 2
        wanted[:] = False
        for offset in np.ndindex(3, 3, 3):
            wanted[tuple((crossed + half * np.array(offset)).T)] = True
        for axis in range(3):  # halve the spacing: between two points their mean
            moved = np.moveaxis(values, axis, 0)
            others = [slice(None, None, half if number < axis else step) for number in range(2)]
            middle = (moved[:-1:step][:, *others] + moved[step::step][:, *others]) / 2
            target, seen = moved[half::step][:, *others], np.moveaxis(known, axis, 0)[half::step][:, *others]
            np.copyto(target, middle, where=~seen)
    return surface(field, values[:resolution, :resolution, :resolution], BEST_CHUNK)


def cpu_seconds(call: Callable[[], object]) -> tuple[float, object]:
    began = time.process_time()
    made = call()
    return time.process_time() - began, made


def uncapped(mesh: Mesh, bound: float) -> tuple[Mesh, int]:
    """Without the flat caps that close a surface at the box's border (the baselines leave it open); how many faces."""
    outside = np.abs(mesh.vertices) >= bound
    cap = (outside[mesh.faces].all(axis=1)).any(axis=1)
    kept, again = np.unique(mesh.faces[~cap], return_inverse=True)
    return Mesh(mesh.vertices[kept], again.reshape(-1, 3), mesh.colors[kept]), int(cap.sum())


def same(whole: Mesh, vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray, cell: float, bound: float) -> str:
    """Whether two meshes have the same faces between the same vertices; how far vertices and colours are apart."""
    mesh, caps = uncapped(whole, bound)
    if len(mesh.faces) != len(faces) or len(mesh.vertices) != len(vertices):
        return f"NO ({len(mesh.faces)} and {len(faces)} faces)"
    apart, twin = cKDTree(mesh.vertices).query(vertices)
    if len(np.unique(twin)) < len(vertices):
        return "NO (vertices elsewhere)"
    if (ordered(mesh.faces) != ordered(twin[faces[:, ::-1]])).any():
        return "NO (other faces)"
    shade = np.abs(mesh.colors[twin] - colors.clip(0, 1)).max() * 255
    closed = f", {caps} more close it at the border" if caps else ""
    return f"yes{closed} (vertices {apart.max() / cell:.4f} cell, colours {shade:.3f}/255)"


def ordered(faces: np.ndarray) -> np.ndarray:
    """Faces, each from its smallest corner on, in the order of their corners."""
    first = faces.argmin(axis=1)
    turned = np.stack([faces[np.arange(len(faces)), (first + i) % 3] for i in range(3)], axis=1)
    return turned[np.lexsort(turned.T[::-1])]


Soup = tuple[np.ndarray, np.ndarray, np.ndarray]


def compare(
    name: str, baseline: Callable[[], Soup], product: Callable[[], Mesh], cell: float, pairs: int, product_runs: int = 3
) -> None:
    """A row: both in turns, the median of the ratios of CPU-seconds."""
    ratios, ours, theirs = [], [], []
    for _ in range(pairs):
        seconds, made = cpu_seconds(baseline)
        runs = [cpu_seconds(product) for _ in range(product_runs)]
        ours.append(statistics.median(run[0] for run in runs))
        theirs.append(seconds)
        ratios.append(seconds / ours[-1])
    mesh = runs[-1][1]
    print(
        f"| {name} | {len(mesh.vertices)} | {statistics.median(theirs):.3f} | {statistics.median(ours):.3f} "
        f"| {statistics.median(ratios):.1f} | {same(mesh, *made, cell, 2.0)} |",
        flush=True,
    )


def peak_at_512() -> None:
    """In a process of its own: peak memory and CPU-seconds of 512^3."""
    field = teapot.field(teapot.weights())
    extract_mesh(field, 64)
    seconds, _ = cpu_seconds(lambda: extract_mesh(field, 512))
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one pair, without the slow rows")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        peak_at_512()
        return
    pairs = 1 if options.quick else options.pairs
    pot, noisy = teapot.field(teapot.weights()), teapot.untrained()
    extract_mesh(pot, 32), extract_mesh(pot, 32, "exact"), official(pot, 16), mise(pot, 33)
    print("| field, lattice, against | vertices | baseline CPU-s | product CPU-s | ratio | same faces |")
    print("|---|---|---|---|---|---|")
    for n in (256, 128):
        fast, exact, cell = partial(extract_mesh, pot, n), partial(extract_mesh, pot, n, "exact"), 4 / (n - 1)
        compare(f"tea-pot {n}, official", partial(official, pot, n), fast, cell, pairs)
        compare(f"tea-pot {n}, exact, official", partial(official, pot, n), exact, cell, pairs)
        compare(f"tea-pot {n}, best chunk", partial(official, pot, n, BEST_CHUNK), fast, cell, pairs)
        compare(f"tea-pot {n}, MISE", partial(mise, pot, n), fast, cell, pairs)
    compare("untrained 256, official", partial(official, noisy, 256), partial(extract_mesh, noisy, 256), 4 / 255, pairs)
    for scale in (1, 4, 12):
        scaled = teapot.field(teapot.weights(), scale)
        exact = partial(extract_mesh, scaled, 128, "exact")
        compare(f"planes x{scale} 128, exact, official", partial(official, scaled, 128), exact, 4 / 127, 1, 1)
    once, _ = cpu_seconds(lambda: official(pot, 256))
    output = subprocess.run([sys.executable, __file__, "--peak"], capture_output=True, text=True, check=True).stdout
    seconds, peak = map(float, output.split())
    print(
        f"\n512^3: {seconds:.2f} CPU-s, 1/{once / seconds:.1f} of the official 256^3 ({once:.1f}), peak {peak:.2f} GiB"
    )


if __name__ == "__main__":
    main()
