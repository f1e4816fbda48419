"""scaledreamer refine: the quality dial of one asset. More steps of distillation for its prompt alone."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    SizeOption,
    TargetOption,
    TextEncoderOption,
    TextureOption,
    say,
    settings_for,
    settings_given,
    write_asset,
)
from scaledreamer.errors import ConfigError, ScaleDreamerError

if TYPE_CHECKING:
    from scaledreamer.training.priors.config import PriorConfig
    from scaledreamer.training.refine import RefineConfig

RECIPE_GROUPS = ("prior.", "distill.", "refine.")


def refine(
    prompt: PromptArgument,
    out: OutOption,
    steps: Annotated[int | None, typer.Option(min=1, help="at most so many; 100 if left out")] = None,
    recipe: Annotated[
        str, typer.Option(help="the training preset whose prior and steps to take, as they are at its end")
    ] = "props-refine",
    start: Annotated[Path | None, typer.Option(help="go on from a field that --keep wrote")] = None,
    keep: Annotated[Path | None, typer.Option(help="also write the field, a .safetensors file")] = None,
    previews: Annotated[
        bool, typer.Option(help="a row of pictures a check, in NAME-refine.png beside the first -o")
    ] = True,
    preset: PresetOption = "prop",
    target: TargetOption = None,
    resolution: ResolutionOption = None,
    faces: FacesOption = None,
    texture: TextureOption = None,
    size: SizeOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="prior.path=FOLDER, distill.times.t_min=0.6, refine.patience=3, or as in generate"),
    ] = None,
    model: ModelOption = None,
    text_encoder: TextEncoderOption = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="of the steps, and of a stochastic model's noise")
    ] = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Make a finished asset in minutes, not seconds: its field goes on learning from a prior, and the best is kept."""
    from scaledreamer.model.fields.files import load_field, save_field
    from scaledreamer.pipeline import TextTo3D
    from scaledreamer.progress import Progress, warn
    from scaledreamer.prompt import check_prompt

    prompt = check_prompt(prompt)
    of_recipe = [pair for pair in settings or [] if pair.startswith(RECIPE_GROUPS)]
    others = [pair for pair in settings or [] if pair not in of_recipe]
    given = settings_given(others, target=target, resolution=resolution, faces=faces, texture=texture, size=size)
    chosen = settings_for(out, preset, given)
    prior_config, config = read_recipe(recipe, of_recipe, steps, seed)
    if keep is not None and keep.suffix != ".safetensors":
        raise ConfigError(f"cannot keep a field in {str(keep)!r}; name a .safetensors file")

    from scaledreamer.training.priors.build import build_prior
    from scaledreamer.training.refine import Check
    from scaledreamer.training.refine import refine as run
    from scaledreamer.training.refine_preview import Strip

    keep_freed_memory()
    began = time.monotonic()
    pipe = TextTo3D.load(model, text_encoder, device)
    prior, _ = build_prior(prior_config, device)
    loaded = time.monotonic()
    stochastic = pipe.generator.stochastic
    field = load_field(start, device) if start else pipe.fields([prompt], seed if stochastic else None)
    also = [] if start or stochastic else [pipe.in_other_words(prompt)]
    strip = Strip(config, out[0].with_name(f"{out[0].stem}-refine.png")) if previews else None
    with Progress(config.steps) as bar:

        def told(check: Check, looked_at: object) -> None:
            bar.update(check.step, {"score": check.score})

        refined = run(field, prompt, prior, config, [told, strip] if strip else [told], also)
    refining = time.monotonic()
    asset = pipe.finish(prompt, refined.field, chosen)
    written = write_asset(asset, out, chosen, pipe.card.get("licence"))
    first, kept, taken = refined.checks[0], refined.kept, refined.checks[-1].step
    told_of = {
        "steps": taken, "kept": kept.step, "score_before": first.score, "score": kept.score, "ended": refined.ended,
        "recipe": recipe, "seed": config.seed,
    }  # fmt: skip
    if keep is not None:
        save_field(refined.field, keep, {"model": pipe.model_id, "licence": pipe.card.get("licence"),
                                         "prompt": prompt, "refined": told_of})  # fmt: skip
        written.append(str(keep))
    if strip and strip.path.exists():
        written.append(str(strip.path))
    if refined.ended == "not-finite":
        warn(f"it ended at step {taken} because the loss was not finite; a smaller refine.optimizer.lr may help")
    if kept.step == 0:
        why = "no check was better than the first"
        if refined.ended == "distrusted":
            why = (
                f"the prior likes step {taken} more than {config.most_gain:.0%} better: it would make another thing of "
                f"{prompt!r} than the model (refine.most_gain=1 keeps the step)"
            )
        came = f"the field of {start}" if start else "what `generate` makes"
        warn(f"{why}; the asset is {came if kept is first else 'the mean of what other wordings give'}")
    elif not as_json:
        scores = f"{first.score:.4g} before, {kept.score:.4g} now, less is better"
        print(f"kept step {kept.step} of {taken}; the prior's score was {scores}")
    seconds = {
        "load": round(loaded - began, 2), "refine": round(refining - loaded, 2),
        "generate": round(time.monotonic() - loaded, 2), **asset.seconds,
    }  # fmt: skip
    say(prompt, asset, written, seconds, as_json, {"refined": told_of})


def read_recipe(
    recipe: str, overrides: list[str], steps: int | None = None, seed: int = 0
) -> tuple["PriorConfig", "RefineConfig"]:
    """The prior and the refinement that a training preset stands for: its steps as they are at its end."""
    try:
        from scaledreamer.training.config import DistillRun, load_preset, overridden
        from scaledreamer.training.refine import RefineConfig
    except ModuleNotFoundError as error:
        raise ScaleDreamerError(f"refine needs {error.name}; install the whole package") from error
    from pydantic import ValidationError

    from scaledreamer.config import explain

    own = [pair.removeprefix("refine.") for pair in overrides if pair.startswith("refine.")]
    run = load_preset(recipe, [pair for pair in overrides if not pair.startswith("refine.")])
    if not isinstance(run, DistillRun):
        raise ConfigError(f"the preset {recipe!r} trains a {run.kind}; choose one that distils, such as props-wide")
    config = RefineConfig(distill=run.distill, at=run.loop.steps, seed=seed, **({"steps": steps} if steps else {}))
    try:
        return run.prior, RefineConfig.model_validate(overridden(config.model_dump(mode="json"), own))
    except ValidationError as error:
        raise ConfigError(f"refine.{explain(error)}") from error
