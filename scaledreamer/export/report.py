"""What was made and how: report.json and manifest.json as types; their JSON schemas are in docs/schemas."""

from typing import Literal

from scaledreamer.config import Config
from scaledreamer.export.facts import MeshFacts
from scaledreamer.export.presets import AssetSettings

Role = Literal[
    "mesh", "lod", "collision", "texture", "material", "buffer", "compressed", "thumbnail", "turntable", "report"
]  # fmt: skip


class Step(Config):
    """A step of finishing, measured before and after."""

    step: str
    before: MeshFacts
    after: MeshFacts


class Level(Config):
    """A level of detail as it is written, in metres; level 0 is the asset itself."""

    level: int
    facts: MeshFacts
    deviation_m: float  # largest distance found between it and level 0
    texture: int  # pixels along the side; 0: colours at the vertices
    uv_utilisation: float | None  # share of the texture that faces cover


class Size(Config):
    """How large the asset is, and why."""

    extent_m: tuple[float, float, float]  # along x, y and z of object space, z up
    source: Literal["explicit", "estimated", "unit"]


class Shine(Config):
    """The metallic-roughness factors, from a declared table of material words."""

    metallic: float
    roughness: float
    source: str  # the word, or "default"


class CollisionReport(Config):
    """What things collide with."""

    kind: Literal["none", "box", "hull", "convex"]
    parts: int
    vertices: int


class Report(Config):
    """All that was decided and measured on the way from field to asset; no times, so that runs compare equal."""

    schema_version: Literal[1] = 1
    generator: str
    name: str
    prompt: str
    model: str
    settings: AssetSettings
    size: Size
    material: Shine
    steps: list[Step]
    levels: list[Level]
    collision: CollisionReport
    degraded: list[str]  # what is less than was asked for, and why
    warnings: list[str]


class File(Config):
    """A file of the asset."""

    name: str
    role: Role
    level: int | None
    media_type: str
    bytes: int
    sha256: str
    triangles: int | None


class Manifest(Config):
    """The files of an asset, written last: where it is, the asset is whole."""

    schema_version: Literal[1] = 1
    generator: str
    name: str
    prompt: str
    model: str
    target: str
    unit: Literal["metre"] = "metre"
    axes: dict[str, str]  # suffix: the axes of such files
    extent_m: tuple[float, float, float]
    files: list[File]
