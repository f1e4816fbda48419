"""scaledreamer-train: presets, overrides, resume, dry run."""

import json
import shlex
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from pydantic import ValidationError
from torch import nn

from scaledreamer.config import explain
from scaledreamer.errors import ConfigError, Interrupted, ScaleDreamerError, TrainingError
from scaledreamer.training import checkpoints, record
from scaledreamer.training.checkpoints import averaged_weights
from scaledreamer.training.config import (
    AutoencoderRun,
    CeilingRun,
    DistillRun,
    LatentPriorRun,
    PriorRun,
    Run,
    continued,
    load_preset,
    overridden,
    pictures_of,
    preset_names,
)
from scaledreamer.training.loop import Task, Trainer
from scaledreamer.training.parallel import Rank, device_of, given_place, launch
from scaledreamer.training.priors.config import encoder_name
from scaledreamer.training.prompts import PropsCorpus, read_corpus
from scaledreamer.training.report import write_report
from scaledreamer.training.signals import RESUME_ME, ends_before_it_begins

TOY = "toy2d"  # no run of the loop: all losses at once, on points of the plane


def build_task(run: Run, device: torch.device | str = "cpu") -> Task:
    """The task of a run: data, networks and frozen models loaded. Only distillation knows GPUs."""
    match run:
        case PriorRun():
            from scaledreamer.training.diffusion import DiffusionTask

            return DiffusionTask(run.network, run.data, run.loop.seed)
        case AutoencoderRun():
            from scaledreamer.training.latents import AutoencoderTask

            return AutoencoderTask(run.network, run.data, run.divergence, run.loop.seed)
        case LatentPriorRun():
            from scaledreamer.training.latents import LatentPriorTask

            return LatentPriorTask(run.network, run.latent, run.data, run.views, run.loop.seed)
        case DistillRun():
            from scaledreamer.model.text import MiniLM
            from scaledreamer.training.embeddings import RememberingEncoder
            from scaledreamer.training.priors.build import build_prior
            from scaledreamer.training.priors.config import PropsPriorConfig
            from scaledreamer.training.step import DistillTask

            prior, encoder = build_prior(run.prior, device, run.distill.embeddings)
            if run.text_encoder == "minilm" and not isinstance(run.prior, PropsPriorConfig):
                encoder = RememberingEncoder(MiniLM())
            task = DistillTask(run.generator, prior, encoder, run.distill, run.loop.seed, device)
            task.steps = run.loop.steps
            return task
        case CeilingRun():
            from scaledreamer.training.evaluation.ceiling import CeilingTask

            return CeilingTask(run.generator, run.ceiling, run.loop.seed, run.loop.steps)


def prepare(run: Run) -> None:
    """Make what all processes of a machine read: pictures of the ground truth, or a store of embeddings."""
    if (data := pictures_of(run)) is not None:
        from scaledreamer.training.props.dataset import build
        from scaledreamer.training.props.world import WORLDS

        build(data.data, WORLDS[data.world], data.sets, data.views, processes=run.loop.processes)
    if isinstance(run, DistillRun):
        prompts = read_corpus(run.distill.corpus)  # a fault in it is one line here, and a traceback in each process
        if run.distill.embeddings is not None:
            store_embeddings(run, prompts, run.distill.embeddings)


def work(run: Run, folder: Path, resume: bool, command: str, rank: Rank) -> None:
    """One process of a run."""
    trainer = Trainer(build_task(run, device_of(rank)), run.loop, folder, rank, run.model_dump(mode="json"))
    if resume:
        trainer.restore()
    elif rank.first:
        trainer.metrics.cut(0)  # of a run that was killed before its first checkpoint
    if not resume and run.loop.start is not None:
        trainer.begin_from(run.loop.start, "props-prior" if isinstance(run, PriorRun) else "generator")
    if rank.first:
        examples = examples_a_batch(run) * run.loop.accumulate * rank.count
        record.begin(folder, trainer.resolved, examples, command, trainer.step, rank.count)
        trainer.report = partial(write_report, folder)
    trainer.run()


def export(run: Run, folder: Path, facts: dict[str, Any]) -> Path:
    """Write the run's averaged weights as the model file that everything else loads."""
    task = build_model(run)
    task.load_state_dict(averaged_weights(folder))
    header = checkpoints.read_newest_header(folder)["counters"]
    card = {
        **facts,
        "steps": header["step"],
        "skipped_steps": header["skipped"],
        "examples_seen": header["batches"] * examples_a_batch(run),
        "wall_hours": round(header["wall_seconds"] / 3600, 2),
        "core_hours": round(header["core_seconds"] / 3600, 2),
        "config": run.model_dump(mode="json"),
        "licence": "Apache-2.0",
    }
    match run:
        case PriorRun():
            from scaledreamer.training.priors.props import save_prior

            path = folder / "props-prior.safetensors"
            save_prior(task, path, card)  # type: ignore[arg-type]
        case AutoencoderRun() | LatentPriorRun():
            from scaledreamer.training.latents import export_folder

            path = folder / "model"
            export_folder(run, task, path, card)
        case DistillRun() | CeilingRun():
            from scaledreamer.model.library import save_generator

            encoder = "minilm"
            if isinstance(run, DistillRun) and run.text_encoder == "prior":
                encoder = encoder_name(run.prior)
            path = folder / "generator.safetensors"
            generator = task.generator if isinstance(run, DistillRun) else task
            card |= vocabulary_of(run)
            save_generator(generator, path, card, encoder)  # type: ignore[arg-type]
    return path


def vocabulary_of(run: DistillRun | CeilingRun) -> dict[str, Any]:
    """What a card says can be asked for, where the prompts are those of a props world."""
    from scaledreamer.training.props.grammar import vocabulary
    from scaledreamer.training.props.world import WORLDS

    if isinstance(run, CeilingRun):
        return {"vocabulary": vocabulary(WORLDS[run.ceiling.data.world])}
    corpus = run.distill.corpus
    return {"vocabulary": vocabulary(WORLDS[corpus.world])} if isinstance(corpus, PropsCorpus) else {}


def examples_a_batch(run: Run) -> int:
    """View sets or prompts of one process's batch."""
    match run:
        case PriorRun() | AutoencoderRun() | LatentPriorRun():
            return run.data.batch
        case DistillRun():
            return run.distill.prompts
        case CeilingRun():
            return run.ceiling.prompts


def build_model(run: Run) -> nn.Module:
    """The network of a run without its data."""
    match run:
        case PriorRun():
            from scaledreamer.training.priors.uvit import MultiViewUViT

            return MultiViewUViT(run.network)
        case AutoencoderRun() | LatentPriorRun():
            from scaledreamer.training.latents import untrained

            return untrained(run)
        case DistillRun():
            from scaledreamer.training.step import Scenery

            return Scenery(run.generator, run.distill.background)
        case CeilingRun():
            from scaledreamer.model.generators import build_generator

            return build_generator(run.generator)


def store_embeddings(run: DistillRun, prompts: list[str], folder: Path) -> None:
    """Encode what is missing of all that will be read, before the processes of the run open the folder."""
    from scaledreamer.progress import Progress
    from scaledreamer.training.embeddings import EmbeddingStore
    from scaledreamer.training.priors.build import load_encoder
    from scaledreamer.training.priors.view_prompts import from_sides

    each = 1 + len(from_sides("")) * run.distill.view_dependent
    told = (text for prompt in prompts for text in [prompt, *from_sides(prompt)][:each])
    with Progress(each * len(prompts)) as bar:
        EmbeddingStore.build(told, load_encoder(run.prior), folder, lambda done: bar.update(done, {}))


def toy(overrides: list[str], out: Path) -> None:
    """SDS, CSD, VSD and ASD on a prior whose score is known; a picture and the numbers in `out`."""
    from scaledreamer.training.toy2d import Toy2DConfig, run

    try:
        from scaledreamer.training.toy2d_files import write
    except ModuleNotFoundError as error:
        raise ScaleDreamerError(f"pictures need {error.name}; run: pip install 'scaledreamer[train]'") from error

    try:
        config = Toy2DConfig.model_validate(overridden({}, overrides))
    except ValidationError as error:
        raise ConfigError(explain(error)) from error
    write(run(config), config, out)
    print(f"wrote {out}/toy2d.png, {out}/toy2d.json")


def train(
    preset: Annotated[str | None, typer.Argument(help="which preset; see --list")] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a.b=value, as often as needed")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of a new run (default: runs/PRESET)")] = None,
    resume: Annotated[Path | None, typer.Option(help="folder of a run to continue from its checkpoint")] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="build everything, take two steps, write nothing")] = False,
    budget: Annotated[float | None, typer.Option("--budget-gb", help="with --dry-run: memory of a process")] = None,
    listing: Annotated[bool, typer.Option("--list", help="name the presets and stop")] = False,
) -> None:
    """Train a prior or a generator from a preset."""
    if listing:
        print("\n".join([*preset_names(), TOY]))
        return
    if preset == TOY:
        toy(overrides or [], out or Path("runs") / TOY)
        return
    place = given_place()
    options = [*(overrides or []), *([] if place is None else [f"loop.processes={place.count}"])]
    if resume is not None and preset is not None:
        raise ConfigError(f"--resume takes everything from {resume}: leave out {preset!r} (overrides go behind --set)")
    if resume is not None:
        run, folder = continued(config_of(resume), options), resume
    elif preset is None:
        raise ConfigError(f"name a preset, one of {preset_names()}, or --resume a run")
    else:
        run, folder = load_preset(preset, options), out or Path("runs") / preset
    if dry:
        from scaledreamer.training.dry_run import dry_run

        print(json.dumps(dry_run(run, build_task, build_model, budget), indent=1))
        return
    if budget is not None:
        raise ConfigError("--budget-gb says what would make a run smaller; add --dry-run")
    saved = checkpoints.exists(folder)
    if resume is None and saved:
        raise ConfigError(f"{folder} holds a run already; continue it with --resume {folder}, or choose another --out")
    command = shlex.join(["scaledreamer-train", *sys.argv[1:]])
    with ends_before_it_begins():
        launch(partial(work, run, folder, saved, command), run.loop.processes, partial(prepare, run))
    if place is None or place.first:
        facts = {"command": command, "scaledreamer": version("scaledreamer")}
        try:
            print(f"wrote {export(run, folder, facts)}")
        except OSError as error:
            raise TrainingError(
                f"the model file was not written ({error}); the checkpoint is whole: make room, then "
                f"scaledreamer-train --resume {folder}"
            ) from error


def config_of(folder: Path) -> dict[str, Any]:
    """What a run folder says about its run: the newest checkpoint, or its record where none was written yet."""
    if not checkpoints.exists(folder) and (folder / record.RECORD).exists():
        config: dict[str, Any] = record.read(folder)["config"]
        return config
    newest: dict[str, Any] = checkpoints.read_newest_header(folder)["config"]
    return newest


def main() -> None:
    """Entry point: expected errors become one line."""
    try:
        typer.run(train)
    except Interrupted as ended:
        print(ended, file=sys.stderr)
        raise SystemExit(RESUME_ME) from None
    except ScaleDreamerError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":  # torchrun -m scaledreamer.training.cli
    main()
