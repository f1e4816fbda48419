"""From a field, or a mesh alone, to a finished asset: clean, light, textured, placed, with levels and a hull."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from scaledreamer.errors import ExportError
from scaledreamer.export.cleanup import drop_degenerate_faces, keep_large_parts, merge_vertices
from scaledreamer.export.collision import collision
from scaledreamer.export.deviation import deviation
from scaledreamer.export.facts import MeshFacts, measure
from scaledreamer.export.footing import press_flat
from scaledreamer.export.holes import fill_holes
from scaledreamer.export.isosurface import extract_mesh, with_field_normals
from scaledreamer.export.lods import lod_chain
from scaledreamer.export.materials import material_of
from scaledreamer.export.mesh import Mesh
from scaledreamer.export.names import slug
from scaledreamer.export.placement import Placement, estimate_size, place
from scaledreamer.export.points import colors_at
from scaledreamer.export.presets import AssetSettings
from scaledreamer.export.repair import make_manifold, orient
from scaledreamer.export.report import CollisionReport, Level, Report, Shine, Size, Step
from scaledreamer.export.simplify import simplify
from scaledreamer.export.surface_colors import SurfaceColors
from scaledreamer.export.texture import bake
from scaledreamer.export.unwrap import unwrap, uv_utilisation
from scaledreamer.export.version import generator
from scaledreamer.model.fields.base import Field

GUTTER_PX = 4  # texels between charts at 1024; in proportion elsewhere
SMALLEST_TEXTURE = 256
LONGEST_HOLE = 200  # edges around a hole that is still closed
UNWRAPPED_AT_ONCE = 2
STAGES = ("extract", "clean", "simplify", "lods", "collision", "texture")


@dataclass(frozen=True)
class Asset:
    """Finished meshes in metres, in object space (+Z up, front +X), and how they came about."""

    name: str
    levels: list[Mesh]  # the asset itself, then coarser ones
    collision: list[Mesh]
    placement: Placement  # from the field's object units to metres
    report: Report
    seconds: dict[str, float] = field(default_factory=dict)  # of each stage, wall


Stage = Callable[[str, float], None]  # told the stage that begins, and the share that is done


def finish_field(
    scene: Field,
    settings: AssetSettings,
    prompt: str,
    model: str,
    stage: Stage | None = None,
    warnings: list[str] | None = None,
) -> Asset:
    """The asset of scene 0 of a field. Raises EmptySurfaceError where there is nothing to finish."""
    clock = Clock(stage)
    with clock("extract"):
        mesh = extract_mesh(scene, settings.resolution, settings.mode, settings.tight)
    return Finishing(scene[0], settings, clock).run(mesh, prompt, model, warnings or [])


def finish_mesh(mesh: Mesh, settings: AssetSettings, prompt: str, model: str = "none") -> Asset:
    """The asset of a mesh without a field: its own colours are baked. Raises ExportError for one without faces."""
    return Finishing(SurfaceColors(mesh), settings, Clock(None), of_field=False).run(mesh, prompt, model, [])


class Clock:
    """Seconds of each stage, and who is told about them."""

    def __init__(self, told: Stage | None) -> None:
        self.seconds: dict[str, float] = {}
        self.told = told

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self.told:
            self.told(name, STAGES.index(name) / len(STAGES))
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 4)


class Finishing:
    """The steps in their order, each measured before and after."""

    def __init__(self, scene: Field, settings: AssetSettings, clock: Clock, of_field: bool = True) -> None:
        self.scene, self.settings, self.clock, self.of_field = scene, settings, clock, of_field
        self.steps: list[Step] = []
        self.measured: tuple[Mesh, MeshFacts] | None = None  # the last one
        self.degraded: list[str] = []

    def run(self, mesh: Mesh, prompt: str, model: str, warnings: list[str]) -> Asset:
        """Clean, simplify, levels, collision, placement, texture."""
        settings, name = self.settings, slug(prompt)
        with self.clock("clean"):
            mesh = self.cleaned(mesh)
        with self.clock("simplify"):
            if settings.faces is not None and len(mesh.faces) > settings.faces:
                mesh = self.step("simplify", mesh, simplify(mesh, settings.faces, settings.floaters))
            mesh = self.asked_again(mesh)
        with ThreadPoolExecutor(UNWRAPPED_AT_ONCE) as pool:  # unwraps are processes beside the rest
            painted = [pool.submit(self.textured, mesh, 0)]
            with self.clock("lods"):
                levels = [mesh, *(self.asked_again(coarse) for coarse in lod_chain(mesh, settings.lods + 1)[1:])]
            if len(levels) <= settings.lods:
                self.degraded.append(f"lods: {len(levels) - 1} of {settings.lods}; the asset cannot become coarser")
            painted += [pool.submit(self.textured, coarse, number) for number, coarse in enumerate(levels) if number]
            with self.clock("collision"):
                made = collision(mesh, settings.collision, settings.collision_budget_s)
            if made.degraded:
                self.degraded.append(f"collision: {made.degraded}")
            length, source = self.length(prompt)
            placement = place(mesh, length, settings.axis, settings.pivot)
            deviations = [0.0, *(deviation(mesh, coarse) * placement.scale for coarse in levels[1:])]
            with self.clock("texture"):
                painted_levels = [future.result() for future in painted]
        levels = [level for level, _ in painted_levels]
        self.degraded += [reason for _, reason in painted_levels if reason]
        shine = material_of(prompt)
        levels = [replace(placement.apply(level), material=shine) for level in levels]
        low, high = levels[0].vertices.min(axis=0), levels[0].vertices.max(axis=0)
        report = Report(
            generator=generator(), name=name, prompt=prompt, model=model, settings=settings,
            size=Size(extent_m=tuple((high - low).tolist()), source=source),
            material=Shine(metallic=shine.metallic, roughness=shine.roughness, source=shine.source),
            steps=self.steps,
            levels=[level_report(*told) for told in zip(range(len(levels)), levels, deviations, strict=True)],
            collision=CollisionReport(
                kind=made.kind, parts=len(made.parts), vertices=sum(len(part.vertices) for part in made.parts)
            ),
            degraded=self.degraded, warnings=warnings,
        )  # fmt: skip
        hulls = [placement.apply(part) for part in made.parts]
        return Asset(name, levels, hulls, placement, report, self.clock.seconds)

    def step(self, name: str, before: Mesh, after: Mesh) -> Mesh:
        """Note a step that changed the mesh."""
        if after is not before:
            told = self.facts(before)
            self.steps.append(Step(step=name, before=told, after=self.facts(after)))
        return after

    def facts(self, mesh: Mesh) -> MeshFacts:
        """Measured once a mesh, for what is after one step is before the next."""
        if self.measured is None or self.measured[0] is not mesh:
            self.measured = mesh, measure(mesh)
        return self.measured[1]

    def cleaned(self, mesh: Mesh) -> Mesh:
        """Without floaters, closed, edge-manifold and wound outward, as far as the settings ask for it."""
        if len(mesh.faces) == 0:
            raise ExportError("the mesh has no faces, so there is nothing to finish")
        settings = self.settings
        if settings.repair:
            mesh = self.step("merge vertices", mesh, merge_vertices(mesh))
        if settings.floaters > 0:
            mesh = self.step("floaters", mesh, keep_large_parts(mesh, settings.floaters))
        if self.of_field:
            mesh = self.step("footing", mesh, press_flat(mesh, settings.footing))
        if not settings.repair:
            return mesh
        sound = self.facts(mesh)
        if sound.watertight and sound.winding_consistent and sound.degenerate_faces == 0 and sound.volume > 0:
            return mesh
        mesh = self.step("degenerate faces", mesh, drop_degenerate_faces(mesh))
        if len(mesh.faces) == 0:
            raise ExportError("every face of the mesh is degenerate, so there is nothing to finish")
        mesh = self.step("manifold", mesh, make_manifold(mesh))
        mesh = self.step("winding", mesh, orient(mesh))
        mesh = self.step("holes", mesh, fill_holes(mesh, LONGEST_HOLE))
        mesh = self.step("winding", mesh, orient(mesh))
        facts = self.facts(mesh)
        if facts.faces < 4:
            raise ExportError(f"the mesh has {facts.faces} faces and encloses nothing, so there is nothing to finish")
        if not facts.watertight:
            self.degraded.append(
                f"repair: {facts.boundary_edges} open and {facts.nonmanifold_edges} crowded edges are left"
            )
        return mesh

    def asked_again(self, mesh: Mesh) -> Mesh:
        """Colours and normals of the field itself at the vertices that there are now."""
        if not self.of_field:
            return mesh
        step = self.scene.bound / (self.settings.resolution - 1)  # half a cell
        return with_field_normals(self.scene, replace(mesh, colors=colors_at(self.scene, mesh.vertices)), step)

    def length(self, prompt: str) -> tuple[float | None, str]:
        """Metres along the axis that decides the size, and where they come from; None: a unit is a metre."""
        match self.settings.size:
            case "unit":
                return None, "unit"
            case "auto":
                return estimate_size(prompt)
            case metres:
                return metres, "explicit"

    def textured(self, mesh: Mesh, level: int) -> tuple[Mesh, str | None]:
        """A level with its own picture, half as large as the one before, and what is less than it should be."""
        if not self.settings.texture:
            return mesh, None
        size = max(SMALLEST_TEXTURE, self.settings.texture >> level)
        made = unwrap(mesh, size, max(1, GUTTER_PX * size // 1024), self.settings.unwrap_budget_s)
        lost = f"texture of level {level}: {made.degraded}; each face has a place of its own" if made.degraded else None
        return bake(self.scene, made.mesh, size), lost


def level_report(number: int, mesh: Mesh, deviation_m: float) -> Level:
    """A level as it is written."""
    return Level(
        level=number, facts=measure(mesh), deviation_m=deviation_m,
        texture=0 if mesh.texture is None else len(mesh.texture),
        uv_utilisation=None if mesh.uvs is None else round(uv_utilisation(mesh), 4),
    )  # fmt: skip
