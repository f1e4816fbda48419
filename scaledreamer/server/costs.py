"""What a request will cost, before anything is allocated for it; and what works really cost on this machine."""

from scaledreamer.export.presets import AssetSettings
from scaledreamer.server.engine import Watcher, Work
from scaledreamer.server.problems import FieldFault, ProblemError
from scaledreamer.server.records import Failure, Outcome

SURFACE = 63.0  # thousand faces at resolution 128, of a large prop
MEMORY = 0.95  # of what was learnt, after another work: the last twenty or so count
PRIOR = 20.0  # seconds of works that went as estimated, before the first one has ended


def cost_parts(settings: AssetSettings) -> dict[str, float]:
    """Seconds of one core (the two-core machine of docs/serving.md) by the field of the request that causes them.

    Fitted to the default model's assets: 0.8 s for preset raw, 6 for prop, 20 for hero, 34 for prop at texture 4096.
    A heavier generator shows in what `Costs` learns.
    """
    area = (settings.resolution / 128) ** 2 * (2.0 if settings.tight else 1.0)
    faces = min(SURFACE * area, (settings.faces or 10**9) / 1000)  # thousands
    pixels = (settings.texture / 1024) ** 2
    return {
        "prompt": 0.2 + (1.2 if settings.thumbnail else 0.0),
        "resolution": area * (0.8 if settings.repair else 0.5) * (1.4 if settings.mode == "exact" else 1.0),
        "faces": 0.004 * faces,
        "lods": 0.3 + 0.075 * faces + 0.0005 * faces**2 if settings.lods else 0.0,
        "collision": {"none": 0.0, "box": 0.05, "hull": 0.15 + 0.005 * faces, "convex": 0.5 + 0.015 * faces}[
            settings.collision
        ],
        "texture": 1.0 + 1.75 * pixels + 0.012 * faces if pixels else 0.0,
    }


def check_cost(settings: AssetSettings, most: float) -> None:
    """Raise a 422 that names the dearest fields where all parts together take more seconds than `most`."""
    parts = cost_parts(settings)
    cost = sum(parts.values())
    if cost <= most:
        return
    names = sorted(parts.keys() - {"prompt"}, key=lambda name: -parts[name])
    dear = [name for name in names if parts[name] > cost / 4] or names[:1]
    if "lods" in dear:
        dear.insert(0, "faces")  # every level begins from all of them
    shown = ", ".join(f"{name} {getattr(settings, name)} ({parts[name]:.0f} s)" for name in dear)
    detail = f"this asset would take about {cost:.0f} s of one core, and {most:g} is the limit; lower {shown}"
    faults = [FieldFault(pointer=f"/{name}", field=name, detail=detail) for name in dear]
    raise ProblemError("cost-too-high", detail, errors=faults)


class Costs(Watcher):
    """Turns estimates into seconds of this machine by what finished works took: a decaying mean, in memory."""

    def __init__(self) -> None:
        self.estimated = self.taken = PRIOR

    def ended(self, work: Work, result: Outcome | Failure) -> None:
        if isinstance(result, Outcome) and work.wanted.cost > 0:
            self.estimated = MEMORY * self.estimated + work.wanted.cost
            self.taken = MEMORY * self.taken + work.seconds

    def seconds(self, cost: float) -> float:
        """That an estimate means here and now."""
        return cost * self.taken / self.estimated
