"""scaledreamer gallery and blend: the answers to many prompts, or on the way from one to another, as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaledreamer.cli_assets import DeviceOption, ModelOption, TextEncoderOption
from scaledreamer.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

PictureOption = Annotated[Path, typer.Option("-o", "--out", help="the picture, a .png file")]
PixelsOption = Annotated[int, typer.Option(min=32, max=1024, help="side of each asset's picture")]
ResolutionOption = Annotated[int, typer.Option(min=16, max=512, help="of the meshes")]


def gallery(
    out: PictureOption,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(help="what to show; what the model was watched on while it learned if left out"),
    ] = None,
    columns: Annotated[int, typer.Option(min=1)] = 4,
    pixels: PixelsOption = 192,
    resolution: ResolutionOption = 128,
    model: ModelOption = None,
    text_encoder: TextEncoderOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Draw the answers to many prompts as one picture."""
    from scaledreamer.export.gallery import gallery as drawn
    from scaledreamer.export.preview import thumbnail
    from scaledreamer.pipeline import TextTo3D
    from scaledreamer.progress import warn

    check(out)
    pipe = TextTo3D.load(model, text_encoder, device)
    shown = prompts or pipe.card.get("config", {}).get("distill", {}).get("preview", [])
    if not shown:
        raise ConfigError(f"the card of {pipe.model_id!r} names no prompts to show; give some")
    for said in (said for one in shown for said in pipe.warnings(one)):
        warn(said)
    write(out, drawn([(prompt, thumbnail(pipe(prompt, resolution), pixels)) for prompt in shown], columns))


def blend(
    prompt: Annotated[str, typer.Argument(help="where the way begins")],
    other: Annotated[str, typer.Argument(help="where it ends")],
    out: PictureOption,
    steps: Annotated[int, typer.Option(min=2, max=64, help="pictures, both ends included")] = 7,
    pixels: PixelsOption = 192,
    resolution: ResolutionOption = 128,
    model: ModelOption = None,
    text_encoder: TextEncoderOption = None,
    device: DeviceOption = "cpu",
) -> None:
    """Draw the way from one prompt to another as a strip. The API takes a request's `blend` for the asset itself."""
    from scaledreamer.export.gallery import gallery as drawn
    from scaledreamer.export.preview import thumbnail
    from scaledreamer.pipeline import TextTo3D
    from scaledreamer.progress import warn

    check(out)
    pipe = TextTo3D.load(model, text_encoder, device)
    for said in (said for one in (prompt, other) for said in pipe.warnings(one)):
        warn(said)
    shown = []
    for index in range(steps):
        weight = index / (steps - 1)
        label = prompt if index == 0 else other if index == steps - 1 else f"{weight:.2f}"
        mesh = pipe.mesh(pipe.blend(prompt, other, weight), resolution, parts="largest" if 0 < weight < 1 else "large")
        shown.append((label, thumbnail(mesh, pixels)))
    write(out, drawn(shown, steps))


def check(out: Path) -> None:
    """Before anything is made, so that nothing is made in vain."""
    if out.suffix != ".png":
        raise ConfigError(f"cannot write a picture as {str(out)!r}; name a .png file")


def write(out: Path, picture: "Image") -> None:
    """Whole or not at all."""
    from scaledreamer.files import atomic_path

    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as partial:
        picture.save(partial, format="PNG")
    print(f"wrote {out}")
