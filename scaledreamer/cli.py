"""scaledreamer: generate, refine, batch, serve, keys, convert, evaluate, evaluate-prior, doctor."""

import importlib.util
import json
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from scaledreamer.allocator import keep_freed_memory
from scaledreamer.cli_assets import (
    DeviceOption,
    FacesOption,
    JsonOption,
    ModelOption,
    OutOption,
    PresetOption,
    PromptArgument,
    ResolutionOption,
    SettingsOption,
    SizeOption,
    TargetOption,
    TextEncoderOption,
    TextureOption,
    say,
    settings_for,
    settings_given,
    write_asset,
)
from scaledreamer.cli_gallery import blend, gallery
from scaledreamer.cli_keys import keys
from scaledreamer.cli_refine import refine
from scaledreamer.errors import ConfigError, ScaleDreamerError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(keys, name="keys")
app.command()(refine)
app.command()(gallery)
app.command()(blend)


@app.command()
def generate(
    prompt: PromptArgument,
    out: OutOption,
    preset: PresetOption = "prop",
    target: TargetOption = None,
    resolution: ResolutionOption = None,
    faces: FacesOption = None,
    texture: TextureOption = None,
    size: SizeOption = None,
    settings: SettingsOption = None,
    model: ModelOption = None,
    text_encoder: TextEncoderOption = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="for stochastic models; 0 if left out")] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Make a finished asset (and a picture) from a prompt."""
    from scaledreamer.pipeline import TextTo3D

    given = settings_given(settings, target=target, resolution=resolution, faces=faces, texture=texture, size=size)
    chosen = settings_for(out, preset, given)
    began = time.monotonic()
    pipe = TextTo3D.load(model, text_encoder, device)
    loaded = time.monotonic()
    asset = pipe.asset(prompt, chosen, seed)
    written = write_asset(asset, out, chosen, pipe.card.get("licence"))
    seconds = {"load": round(loaded - began, 2), "generate": round(time.monotonic() - loaded, 2), **asset.seconds}
    say(prompt, asset, written, seconds, as_json)


@app.command()
def batch(
    prompts: Annotated[Path, typer.Argument(help=".txt (a prompt a line), .csv or .jsonl (with `prompt`)")],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder; run again with the same one, it goes on")],
    preset: PresetOption = "prop",
    target: TargetOption = None,
    resolution: ResolutionOption = None,
    faces: FacesOption = None,
    texture: TextureOption = None,
    size: SizeOption = None,
    settings: SettingsOption = None,
    formats: Annotated[list[str] | None, typer.Option("--format", help=".glb unless told otherwise; repeat it")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="processes of one thread; one a core unless told")] = None,
    model: ModelOption = None,
    text_encoder: TextEncoderOption = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Make an asset of every row of a file; the exit code counts the rows that failed, to 100 at most."""
    import os

    from scaledreamer.batch import Summary, Worker, read_rows, run_batch
    from scaledreamer.progress import Progress

    given = settings_given(settings, target=target, resolution=resolution, faces=faces, texture=texture, size=size)
    rows = read_rows(prompts, {"preset": preset, **given}, tuple(formats or (".glb",)))
    with Progress(len(rows), unit="assets") as bar:

        def told(done: int, summary: Summary) -> None:
            bar.update(done, {"failed": len(summary.failed)})

        worker = Worker(out.resolve(), model, text_encoder, device)
        summary = run_batch(rows, worker, jobs or os.cpu_count() or 1, told)
    if as_json:
        print(json.dumps(asdict(summary)))
    else:
        for line in summary.failed:
            print(f"failed: {line}", file=sys.stderr)
        print(
            f"{summary.rows} rows: {summary.made} made, {summary.done_before} were there, "
            f"{len(summary.failed)} failed; wrote {out}/results.jsonl"
        )
    raise SystemExit(min(len(summary.failed), 100))


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on")] = None,
    model: ModelOption = None,
    text_encoder: TextEncoderOption = None,
    accelerator: Annotated[
        str | None, typer.Option(help="eager, compile or tensorrt; what cannot be used runs eager and says why")
    ] = None,
    executor: Annotated[str | None, typer.Option(help="local, or ray for many machines (docs/scaling.md)")] = None,
) -> None:
    """Answer POST /generate, and show a page to try it on."""
    from pydantic import ValidationError

    from scaledreamer.server.main import serve as run
    from scaledreamer.server.settings import Settings

    flags = {"host": host, "port": port, "model": model, "text_encoder": text_encoder,
             "accelerator": accelerator, "executor": executor}  # fmt: skip
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{name} is {first['input']!r}: {first['msg']} (docs/serving.md lists the settings)"
        ) from None
    raise SystemExit(run(settings))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="a released ScaleDreamer .pth, or MVDream's .pt")],
    out: Annotated[Path, typer.Option("-o", "--out", help="a .safetensors file; for MVDream a new folder")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value where another training chose other values: radius=1.0")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Turn official weights into ours, offline. Nothing in the file is executed."""
    from scaledreamer.convert import convert as run

    made = run(source, out, overrides or [])
    if as_json:
        print(json.dumps(asdict(made), default=str))
        return
    for reason, left_out in made.by_reason.items():
        print(f"left out {', '.join(left_out)}: {reason}")
    print(f"wrote {out} ({made.kind})")
    if made.text_encoder not in (None, "minilm"):
        print(f"it reads prompts with {made.text_encoder}: generate and serve it with --text-encoder FOLDER")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="a shipped model's name or a .safetensors file")] = "props",
    out: Annotated[
        Path, typer.Option("-o", "--out", help="folder for metrics.json, tables.md, contact-sheet.png, index.html")
    ] = Path("out/evaluation"),
    limit: Annotated[int | None, typer.Option(help="at most this many prompts of each split")] = None,
    references: Annotated[bool, typer.Option(help="also score the reference rows")] = True,
    ceiling: Annotated[
        str | None, typer.Option(help="also score this generator, fitted to true pictures (preset props-wide-ceiling)")
    ] = None,
    text_encoder: TextEncoderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the metrics as JSON")] = False,
) -> None:
    """Measure a generator of a props world against the ground truth of the world that it learned."""
    try:
        from scaledreamer.training.evaluation.report import evaluate as run
        from scaledreamer.training.evaluation.report import world_of
    except ModuleNotFoundError as error:
        raise ScaleDreamerError("evaluation needs scaledreamer/training; install the whole package") from error
    from scaledreamer.model.encoders import load_encoder
    from scaledreamer.model.library import load_generator
    from scaledreamer.model.shelf import find_model, read_header

    keep_freed_memory()
    path, best = find_model(model), load_generator(find_model(ceiling)) if ceiling else None
    encoder = load_encoder(path, text_encoder)
    world = world_of(read_header(path, "generator")["card"])
    results = run(load_generator(path), out, limit, references, best, encoder=encoder, world=world)
    if as_json:
        print(json.dumps(results))
        return
    for name, splits in results.items():
        for split, summary in splits.items():
            print(f"{name:>30} {split:>9}  " + "  ".join(f"{key} {value:g}" for key, value in summary["all"].items()))
    print(f"wrote {out}/metrics.json, {out}/tables.md, {out}/contact-sheet.png, {out}/index.html")


@app.command()
def evaluate_prior(
    prior: Annotated[str, typer.Argument(help="'shipped', or a props prior's .safetensors file")] = "shipped",
    model: ModelOption = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="folder for prior-error.json and prior-error.png")] = Path(
        "out/prior-error"
    ),
    sets: Annotated[int, typer.Option(min=1, help="view sets of each kind of picture")] = 16,
    ratio: Annotated[float, typer.Option(min=0, max=1, help="how much later: t + ratio (t - 0.02)")] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", help="print the numbers as JSON")] = False,
) -> None:
    """Plot the prior's error against time: true pictures, plain balls, a model's renders (the paper's Figure 2)."""
    try:
        from scaledreamer.training.evaluation.prior_error import evaluate_prior as run
        from scaledreamer.training.evaluation.report import world_of
        from scaledreamer.training.priors.props import load_prior, prior_path
    except ModuleNotFoundError as error:
        raise ScaleDreamerError(f"{error.name} is not installed; run: pip install 'scaledreamer[train]'") from error
    from scaledreamer.model.library import load_generator
    from scaledreamer.model.shelf import find_model, read_header

    path = find_model(model)
    world = world_of(read_header(path, "generator")["card"])
    facts = run(load_prior(prior_path(prior)), load_generator(path), out, sets, ratio, world)
    if as_json:
        print(json.dumps(facts))
        return
    print(" " * 24 + "t  " + "  ".join(f"{t:<6g}" for t in facts["times"]))
    for name, readings in facts["error"].items():
        for reading, errors in readings.items():
            print(f"{name:>16} {reading:>8}  " + "  ".join(f"{error:.4f}" for error in errors))
    print(f"wrote {out}/prior-error.json, {out}/prior-error.png")


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False) -> None:
    """Say what this machine has, what is missing and how to get it."""
    facts = diagnose()
    if as_json:
        print(json.dumps(facts, indent=1))
    else:
        for section, lines in facts.items():
            print(section)
            for name, value in lines.items():
                print(f"  {name}: {value}")


def diagnose() -> dict[str, dict[str, Any]]:
    """Devices, versions, models and optional parts."""
    import torch

    import scaledreamer
    from scaledreamer.model.compile import described
    from scaledreamer.model.shelf import shipped_models
    from scaledreamer.model.text import MINILM_SHA256, minilm_folder, verify_sha256

    try:
        verify_sha256(minilm_folder() / "model.safetensors", MINILM_SHA256)
        encoder = "present, sha256 verified"
    except ScaleDreamerError as error:
        encoder = str(error)
    cuda = torch.cuda.is_available()
    optional = {
        "training": ("scaledreamer.training", "part of the package; reinstall it"),
        "nerfacc": ("nerfacc", "pip install nerfacc (CUDA only)"),
        "usd-core": ("pxr", "pip install 'scaledreamer[usd]' (to write .usdz)"),
        "DracoPy": ("DracoPy", "pip install 'scaledreamer[draco]' (to compress a GLB)"),
        "tinycudann": ("tinycudann", "build it from source with nvcc (CUDA only)"),
    }
    return {
        "versions": {
            "scaledreamer": scaledreamer.__version__, "python": platform.python_version(), "torch": torch.__version__,
        },
        "devices": {
            "cpu": f"{platform.machine()}, {torch.get_num_threads()} threads",
            "cuda": torch.cuda.get_device_name(0) if cuda else "none; everything runs on the CPU",
        },
        "models": {
            "shipped": ", ".join(shipped_models()) or "none",
            "text encoder minilm": encoder,
        },
        "accelerators": described("cuda" if cuda else "cpu"),
        "optional parts": {
            name: "present" if importlib.util.find_spec(module) else f"absent: {remedy}"
            for name, (module, remedy) in optional.items()
        },
        "never run on this kind of machine": {
            "on a GPU": "rendering, training, serving, fp16 priors, nccl, tinycudann; begin with docs/gpu.md",
            "released files": "those of SD 2.1-base, MVDream and ScaleDreamer; synthetic ones of the same layout have",
        },
    }  # fmt: skip


def main() -> None:
    """Entry point: expected errors become one line and exit code 2."""
    try:
        app()
    except (ScaleDreamerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
