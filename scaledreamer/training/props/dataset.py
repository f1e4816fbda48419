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
from scaledreamer.training.props.grammar import Asked, asked_for
from scaledreamer.training.props.renders import View, paint, picture
from scaledreamer.training.props.shapes import paints, shape
from scaledreamer.training.props.world import Prop, World
from scaledreamer.training.views import ViewsConfig, sample_views

PIXELS = 64  # of the cache; training averages them down
LAYOUT = 2  # of a file's tensors
COLOR_JITTER = 0.025  # standard deviation of the paint of each part, sRGB


@dataclass(frozen=True)
class Cache:
    """Sets of V views of one kind and size with random proportions."""

    part: UInt8[Tensor, "N V H W"]
    shading: UInt8[Tensor, "N V H W"]
    grain: UInt8[Tensor, "N V H W"]
    height: UInt8[Tensor, "N V H W"]
    c2w: Float[Tensor, "N V 4 4"]
    fovy: Float[Tensor, "N V"]

    def view(self, index: int) -> View:
        """One set, without its cameras."""
        return View(self.part[index], self.shading[index], self.grain[index], self.height[index])


def render_sets(kind: str, size: str, sets: int, views: ViewsConfig, seed: int) -> Cache:
    """Draw proportions and cameras, and render; the same arguments give the same pictures."""
    rng = torch.Generator().manual_seed(seed)
    seen, cameras = [], []
    for _ in range(sets):
        camera = sample_views(views, 1, rng)
        seen.append(picture(shape(kind, size, rng=rng), camera, PIXELS))
        cameras.append(camera)
    maps = {name: torch.stack([getattr(view, name) for view in seen]) for name in vars(seen[0])}
    c2w, fovy = (torch.stack([getattr(camera, name) for camera in cameras]) for name in ("c2w", "fovy"))
    return Cache(**maps, c2w=c2w, fovy=fovy)


def _render_file(path: Path, kind: str, size: str, sets: int, views: ViewsConfig, seed: int) -> Path:
    torch.set_num_threads(1)
    cache = render_sets(kind, size, sets, views, seed)
    with atomic_path(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in vars(cache).items()}, partial)
    return path


def cache_path(folder: Path, kind: str, size: str, sets: int) -> Path:
    """Of one shape; another LAYOUT is another file."""
    return folder / f"{kind}-{size}-{sets}-{LAYOUT}.safetensors"


def build(folder: Path, world: World, sets: int, views: ViewsConfig, seed: int = 0, processes: int = 2) -> None:
    """Render what is missing of the cache in `folder` (one file a shape; safe to interrupt and call again)."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes) as pool:
        jobs = []
        for index, (kind, size) in enumerate(world.training_shapes()):
            path = cache_path(folder, kind, size, sets)
            if not path.exists():
                jobs.append(pool.submit(_render_file, path, kind, size, sets, views, seed * 1000 + index))
        for number, job in enumerate(jobs, start=1):
            print(f"rendered {number}/{len(jobs)}: {job.result().name}", flush=True)


@dataclass(frozen=True)
class Example:
    """What a prior learns from: pictures of a prop, and how it was asked for."""

    images: Float[Tensor, "V 4 h w"]  # RGBA in [0, 1], premultiplied
    camera: Camera
    prompt: str


def cameras_of(examples: list[Example]) -> Camera:
    """All views of a batch, sets contiguous."""
    return Camera(*(torch.cat([getattr(one.camera, name) for one in examples]) for name in ("c2w", "fovy")))


@dataclass(frozen=True)
class PropsPictures:
    """The whole cache of a world, and the prompts of its training props, ready to draw examples from."""

    world: World
    caches: dict[tuple[str, str], Cache]
    pixels: int
    asked: list[list[Asked]]  # of each training prop

    @staticmethod
    def load(folder: Path, world: World, sets: int, pixels: int, wordings: int) -> "PropsPictures":
        """Read the cache that `build` wrote; `wordings` prompts a prop."""
        caches = {}
        for kind, size in world.training_shapes():
            caches[kind, size] = Cache(**load_file(cache_path(folder, kind, size, sets)))
        asked = [asked_for(world, prop, wordings) for prop in world.training_props()]
        return PropsPictures(world, caches, pixels, asked)

    @property
    def prompts(self) -> list[str]:
        """All that an example may be asked for with."""
        return [asked.prompt for said in self.asked for asked in said]

    def example(self, rng: torch.Generator) -> Example:
        """A training prop in one of its wordings."""
        said = self.asked[int(torch.randint(len(self.asked), (), generator=rng))]
        one = said[int(torch.randint(len(said), (), generator=rng))]
        return Example(*self.draw(one.prop, rng), one.prompt)

    def draw(self, prop: Prop, rng: torch.Generator) -> tuple[Float[Tensor, "V 4 h w"], Camera]:
        """One painted view set of a prop (RGBA in [0, 1], premultiplied) and its cameras."""
        if self.world.split_of(prop) != "seen":
            raise ValueError(f"{prop} is held out of every training; draw one of world.training_props()")
        cache = self.caches[prop.kind, prop.size]
        i = int(torch.randint(len(cache.part), (), generator=rng))
        colors = paints(prop)
        colors = (colors + COLOR_JITTER * torch.randn(colors.shape, generator=rng)).clamp(0, 1)
        material = prop.material if self.world.visible else "any"
        images = paint(cache.view(i), colors.expand(len(cache.part[i]), -1, -1), material, PIXELS // self.pixels)
        return images, Camera(cache.c2w[i], cache.fovy[i])
