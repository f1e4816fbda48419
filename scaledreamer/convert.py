"""Official weights become files of ours: a generator is one safetensors file, MVDream a diffusers folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError

from scaledreamer.errors import ConfigError, ModelFileError, ScaleDreamerError
from scaledreamer.model.clip_text import clip_name
from scaledreamer.model.generators import AnyGeneratorConfig, PromptNGPConfig
from scaledreamer.model.library import save_generator
from scaledreamer.model.official import from_state_dict
from scaledreamer.model.official.files import OfficialFile, read_official
from scaledreamer.model.pretrained import SD_BASE
from scaledreamer.model.torch_files import open_weights

DIFFUSION = "model.diffusion_model."  # how the names of MVDream's file begin


@dataclass(frozen=True)
class Conversion:
    """What was written, and what was left out with the reason."""

    out: Path
    kind: str
    text_encoder: str | None  # what a generator reads prompts with
    card: dict[str, Any]
    ignored: dict[str, str]

    @property
    def by_reason(self) -> dict[str, list[str]]:
        """The keys that were left out, under their reasons."""
        found: dict[str, list[str]] = {}
        for key, reason in self.ignored.items():
            found.setdefault(reason, []).append(key)
        return found


def convert(source: Path, out: Path, overrides: list[str]) -> Conversion:
    """Read a released file, as weights only, and write ours. `overrides` (key=value) are for a generator's config."""
    weights = open_weights(source)
    if any(key.startswith(DIFFUSION) for key in weights):
        return convert_prior(source, out, overrides)
    return convert_generator(source, out, overrides)


def convert_generator(source: Path, out: Path, overrides: list[str]) -> Conversion:
    """A generator in float32, so that its fields are the source's."""
    if out.suffix != ".safetensors":
        raise ModelFileError(f"cannot write a generator to {out.name!r}; give a name that ends in .safetensors")
    if out.exists():
        raise ModelFileError(f"{out} exists already; choose another name")
    values, official = parsed(overrides), read_official(source)
    try:
        generator = from_state_dict(official.state, **values)
    except (ConfigError, ModelFileError) as error:
        raise type(error)(f"{source}: {error}") from error
    config = generator.config
    assert isinstance(config, AnyGeneratorConfig)
    check_box(official, source, config.radius)
    card = {
        "source": source.name,
        "source_sha256": sha256(source),
        "epoch": official.epoch,
        "global_step": official.step,
        "kind": config.kind,
    }
    encoder = "minilm" if isinstance(config, PromptNGPConfig) else clip_name(SD_BASE)  # the former reads no prompt
    with writing(out):
        save_generator(generator, out, card, encoder, half=False)
    return Conversion(out, config.kind, encoder, card, official.ignored)


def convert_prior(source: Path, out: Path, overrides: list[str]) -> Conversion:
    """MVDream as a diffusers folder."""
    if overrides:
        raise ConfigError(f"MVDream's file says all its sizes; leave out --set {overrides[0]}")
    if out.suffix in {".safetensors", ".pt", ".pth", ".ckpt"}:
        raise ModelFileError(f"MVDream becomes a folder, not {out.name!r}; give a name without {out.suffix!r}")
    try:
        from scaledreamer.training.priors.mvdream_files import convert_mvdream
        from scaledreamer.training.priors.mvdream_keys import why_ignored
    except ModuleNotFoundError as error:
        raise ScaleDreamerError(f"MVDream needs {error.name}; run: pip install 'scaledreamer[train]'") from error
    try:
        with writing(out):
            left = convert_mvdream(source, out)
    except (LookupError, ValueError, RuntimeError) as error:  # a weight is missing, or has another shape
        raise ModelFileError(f"{source} is no whole MVDream ({one_line(error)}); fetch it again") from error
    return Conversion(out, "mvdream", None, {}, {name: why_ignored(name) for name in left})


def parsed(overrides: list[str]) -> dict[str, Any]:
    """key=value pairs, the values read as YAML."""
    values = {}
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator:
            raise ConfigError(f"{override!r} is no override; write key=value, for example radius=1.0")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{override!r} is no YAML ({one_line(error)}); quote it") from error
    return values


def check_box(official: OfficialFile, source: Path, radius: float) -> None:
    """The box in the file is the one that the config says."""
    box = official.state.get("geometry.bbox", official.state.get("bbox"))
    if box is not None and not bool((box.abs() == radius).all()):
        raise ModelFileError(
            f"the box in {source} is {box.flatten()[:6].tolist()}, the radius {radius:g}; say it with --set radius=..."
        )


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """A disk that is full or closed becomes one line; safetensors tells it in an error of its own."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"cannot write {out} ({one_line(error)}); free space or choose another folder") from error


def one_line(error: Exception) -> str:
    """The beginning of what another library said."""
    return " ".join(str(error).split())[:200]
