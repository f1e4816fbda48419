"""A dry run: everything is built and takes two steps; pretrained weights that are not here get tiny stand-ins."""

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, assert_never

import torch
from torch import nn

from scaledreamer.errors import ConfigError
from scaledreamer.model.generators import (
    AnyGeneratorConfig,
    Conv3DConfig,
    HyperNGPConfig,
    PromptNGPConfig,
    TriplaneTransformerConfig,
)
from scaledreamer.model.layers.hash_grid import HashGridConfig
from scaledreamer.model.rendering import AnyBackgroundConfig, HashGridBackgroundConfig, HyperBackgroundConfig
from scaledreamer.training.config import DistillRun, Run, pictures_of, with_pictures
from scaledreamer.training.loop import Task, Trainer
from scaledreamer.training.parallel import Rank
from scaledreamer.training.priors.config import MVDreamConfig, StableDiffusionConfig
from scaledreamer.training.prompts import (
    AnyCorpus,
    FileCorpus,
    JsonCorpus,
    JsonLinesCorpus,
    ListCorpus,
    read_corpus,
)
from scaledreamer.training.props.dataset import build as build_pictures
from scaledreamer.training.props.world import WORLDS
from scaledreamer.training.schedules import constant

PROMPTS = ("a corgi taking a selfie", "a wooden chair", "a blue teapot", "an old treasure chest")
WIDTH = 32  # of the stand-in text tower
TINY_GRID = HashGridConfig(levels=2, log2_entries=8)


def dry_run(
    run: Run, build: Callable[[Run], Task], count: Callable[[Run], nn.Module], budget_gb: float | None = None
) -> dict[str, Any]:
    """What the run would be and cost, and what its first two steps said. `build` makes the task of a run, `count` its
    module; `budget_gb` is memory for a process, and the answer says what brings the run under it.
    """
    with torch.device("meta"):
        parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts(count(run)).items()}
    with tempfile.TemporaryDirectory() as folder:
        small, stand_ins = with_stand_ins(run, Path(folder))
        quiet = {"steps": 2, "processes": 1, "save_every": 10**9, "preview_every": 0}
        short = small.model_copy(update={"loop": small.loop.model_copy(update=quiet)})
        trainer = Trainer(build(short), short.loop, Path(folder), Rank(), {})
        stats = [trainer.advance() for _ in range(2)]
    return {
        "parameters": parameters,
        **told_costs(run, budget_gb),
        "stand_ins": stand_ins,
        "first_steps": stats,
        "config": run.model_dump(mode="json"),
    }


def told_costs(run: Run, budget_gb: float | None) -> dict[str, Any]:
    """What a step of a distillation needs at full size."""
    from scaledreamer.training.costs import costs, fit

    if not isinstance(run, DistillRun):
        if budget_gb is not None:
            raise ConfigError(
                f"costs are known of distillation only, this run is of kind {run.kind}; leave out --budget-gb"
            )
        return {"costs": "known of distillation only"}
    corpus = run.distill.corpus
    here = not isinstance(corpus, FileCorpus | JsonLinesCorpus | JsonCorpus) or corpus.path.exists()
    texts = len(read_corpus(corpus)) if here else None
    found = costs(run, texts)
    if found is None:
        return {"costs": "not known for this prior or generator"}
    return {"costs": found.told(), **({} if budget_gb is None else {"budget": fit(run, budget_gb, texts)})}


def parts(module: nn.Module) -> dict[str, nn.Module]:
    """The whole, or the generator and the background where both are trained."""
    named = dict(module.named_children())
    return named if named.keys() == {"generator", "background"} else {"network": module}


def with_stand_ins(run: Run, folder: Path) -> tuple[Run, list[str]]:
    """The run with tiny networks of the same classes for pretrained weights that are not on this disk, and a tiny
    generator beside them; with the first prompts of the corpus, or a few of ours; with few pictures of the ground truth
    where it learns from those. The second says what stands in.
    """
    said = list[str]()
    if not isinstance(run, DistillRun):
        return with_few_pictures(run, folder / "pictures", said), said
    fewer = {"embeddings": None, "corpus": few(run.distill.corpus, said)}
    run = run.model_copy(update={"distill": run.distill.model_copy(update=fewer)})
    if not isinstance(run.prior, StableDiffusionConfig | MVDreamConfig) or Path(run.prior.path).exists():
        return run, said
    said += [f"tiny random networks for {run.prior.path}", "a tiny generator, 8 pixels"]
    prior = tiny_prior(run.prior, folder / "prior")
    distill = run.distill.model_copy(
        update={"pixels": constant(8), "background": tiny_background(run.distill.background)}
    )
    generator = tiny_generator(run.generator)
    return run.model_copy(update={"prior": prior, "distill": distill, "generator": generator}), said


def with_few_pictures(run: Run, folder: Path, said: list[str]) -> Run:
    """The run on one set of pictures a shape, drawn for it, with one wording a prop: seconds instead of minutes."""
    data = pictures_of(run)
    assert data is not None
    said.append(f"one set of pictures a shape for {data.sets}, in one wording")
    data = data.model_copy(update={"data": folder, "sets": 1, "wordings": 1})
    with contextlib.redirect_stdout(sys.stderr):  # what it draws is no part of the answer
        build_pictures(folder, WORLDS[data.world], data.sets, data.views, processes=1)
    return with_pictures(run, data)


def few(corpus: AnyCorpus, said: list[str]) -> ListCorpus:
    """The first prompts of a corpus, which is read as a whole; of a file that is not there, some of ours."""
    if isinstance(corpus, FileCorpus | JsonLinesCorpus | JsonCorpus) and not corpus.path.exists():
        said.append(f"four prompts for {corpus.path}")
        return ListCorpus(prompts=PROMPTS)
    return ListCorpus(prompts=tuple(read_corpus(corpus)[: len(PROMPTS)]))


def tiny_prior(config: StableDiffusionConfig | MVDreamConfig, folder: Path) -> StableDiffusionConfig | MVDreamConfig:
    """A diffusers folder of the released layout with random weights, and the config that reads it."""
    from scaledreamer.training.priors import small
    from scaledreamer.training.priors.small_config import AutoencoderConfig, SmallUNetConfig

    sizes = SmallUNetConfig(side=8, channels=(32, 32), heads=2, text_width=WIDTH, text_layers=1, window=77)
    words = small.learn_words(list(PROMPTS), sizes.window)
    camera = isinstance(config, MVDreamConfig)
    model = small.TextAndUNet(small.build_unet(sizes, camera), small.build_text_tower(sizes, len(words)))
    small.write_folder(model, words, small.build_autoencoder(AutoencoderConfig(pixels=16, channels=(32, 32))), folder)
    where: dict[str, Any] = {"path": str(folder), "revision": None, "offline": True}
    return config.model_copy(update=where | ({"text": str(folder)} if camera else {}))


def tiny_generator(config: AnyGeneratorConfig) -> AnyGeneratorConfig:
    """The same kind of generator, in the same box, small enough for a step in seconds."""
    match config:
        case TriplaneTransformerConfig():
            sizes: dict[str, Any] = {
                "width": 32, "text_width": WIDTH, "layers": 2, "heads": 2, "low_res": 4, "plane_channels": 4
            }  # fmt: skip
        case Conv3DConfig():
            sizes = {"text_width": WIDTH, "style_width": 16, "channels": (8, 8, 8), "voxel_channels": 4}
        case HyperNGPConfig():
            sizes = {"text_width": WIDTH, "width": 8, "grid": TINY_GRID, "hidden": 8}
        case PromptNGPConfig():
            sizes = {"grid": TINY_GRID, "hidden": 8}
        case never:
            assert_never(never)
    return config.model_copy(update=sizes)


def tiny_background(config: AnyBackgroundConfig) -> AnyBackgroundConfig:
    """The same kind of background, small."""
    match config:
        case HyperBackgroundConfig():
            return config.model_copy(update={"text_width": WIDTH, "width": 8, "grid": TINY_GRID, "hidden": 8})
        case HashGridBackgroundConfig():
            return config.model_copy(update={"grid": TINY_GRID})
        case _:
            return config
