"""The prior's pictures: part ids and shading of every training shape from four sides, painted when they are read."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor

from scaledreamer.files import atomic_path
from scaledreamer.model.cameras import Camera
from scaledreamer.training.props.grammar import HELD_OUT_PAIRS, HELD_OUT_SIZES, KINDS, SIZES, Prop
from scaledreamer.training.props.renders import paint, picture
from scaledreamer.training.props.shapes import paints, shape
from scaledreamer.training.views import ViewsConfig, sample_views

PIXELS = 64  # of the cache; training averages them down
COLOR_JITTER = 0.025  # standard deviation of the paint of each part, sRGB


@dataclass(frozen=True)
class Cache:
    """Sets of V views of one kind and size with random proportions."""

    part: UInt8[Tensor, "N V H W"]
    shading: UInt8[Tensor, "N V H W"]
    c2w: Float[Tensor, "N V 4 4"]
    fovy: Float[Tensor, "N V"]


def training_shapes() -> list[tuple[str, str]]:
    """Every (kind, size) that training may see."""
    return [(kind, size) for kind in KINDS for size in SIZES if (kind, size) not in HELD_OUT_SIZES]


def render_sets(kind: str, size: str, sets: int, views: ViewsConfig, seed: int) -> Cache:
    """Draw proportions and cameras, and render; the same arguments give the same pictures."""
    rng = torch.Generator().manual_seed(seed)
    parts, shadings, cameras = [], [], []
    for _ in range(sets):
        camera = sample_views(views, 1, rng)
        view = picture(shape(kind, size, rng=rng), camera, PIXELS)
        parts.append(view.part)
        shadings.append(view.shading)
        cameras.append(camera)
    c2w = torch.stack([camera.c2w for camera in cameras])
    return Cache(torch.stack(parts), torch.stack(shadings), c2w, torch.stack([camera.fovy for camera in cameras]))


def _render_file(path: Path, kind: str, size: str, sets: int, views: ViewsConfig, seed: int) -> Path:
    torch.set_num_threads(1)
    cache = render_sets(kind, size, sets, views, seed)
    with atomic_path(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in vars(cache).items()}, partial)
    return path


def build(folder: Path, sets: int, views: ViewsConfig, seed: int = 0, processes: int = 2) -> None:
    """Render what is missing of the cache in `folder` (one file a shape; safe to interrupt and call again)."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes) as pool:
        jobs = []
        for index, (kind, size) in enumerate(training_shapes()):
            path = folder / f"{kind}-{size}-{sets}.safetensors"
            if not path.exists():
                jobs.append(pool.submit(_render_file, path, kind, size, sets, views, seed * 1000 + index))
        for number, job in enumerate(jobs, start=1):
            print(f"rendered {number}/{len(jobs)}: {job.result().name}", flush=True)


@dataclass(frozen=True)
class PropsPictures:
    """The whole cache, ready to draw painted view sets from."""

    caches: dict[tuple[str, str], Cache]
    pixels: int

    @staticmethod
    def load(folder: Path, sets: int, pixels: int) -> "PropsPictures":
        """Read the cache that `build` wrote."""
        caches = {}
        for kind, size in training_shapes():
            caches[kind, size] = Cache(**load_file(folder / f"{kind}-{size}-{sets}.safetensors"))
        return PropsPictures(caches, pixels)

    def draw(self, prop: Prop, rng: torch.Generator) -> tuple[Float[Tensor, "V 4 h w"], Camera]:
        """One painted view set of a prop (RGBA in [0, 1], premultiplied) and its cameras."""
        if (prop.kind, prop.color) in HELD_OUT_PAIRS or (prop.kind, prop.size) in HELD_OUT_SIZES:
            raise ValueError(f"{prop} is held out of every training; draw one of grammar.training_props()")
        cache = self.caches[prop.kind, prop.size]
        i = int(torch.randint(len(cache.part), (), generator=rng))
        colors = paints(prop)
        colors = (colors + COLOR_JITTER * torch.randn(colors.shape, generator=rng)).clamp(0, 1)
        views = len(cache.part[i])
        images = paint(cache.part[i], cache.shading[i], colors.expand(views, -1, -1), PIXELS // self.pixels)
        return images, Camera(cache.c2w[i], cache.fovy[i])
