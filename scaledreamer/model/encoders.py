"""The text encoder that a generator's file asks for."""

from pathlib import Path

from scaledreamer.errors import ModelFileError
from scaledreamer.model.clip_text import PREFIX, CLIPText
from scaledreamer.model.pretrained import STAND_INS, Source
from scaledreamer.model.shelf import read_card
from scaledreamer.model.text import MiniLM, TextEncoder

GIVE = (
    "Give a Stable Diffusion 2.1-base folder with the subfolders tokenizer and text_encoder: --text-encoder FOLDER, or "
    f"text_encoder= in Python. {STAND_INS}"
)


def load_encoder(model: Path, folder: str | Path | None, device: str = "cpu") -> TextEncoder:
    """MiniLM, or CLIP's text tower from `folder`; what does not fit the model is refused. Nothing is downloaded."""
    header = read_card(model)
    name = header["text_encoder"]
    if name == "minilm":
        if folder is not None:
            raise ModelFileError(f"{model} reads prompts with 'minilm', which is built in; leave out {str(folder)!r}")
        return MiniLM(device=device)
    if not name.startswith(PREFIX):
        raise ModelFileError(f"{model} reads prompts with {name!r}; this release knows 'minilm' and '{PREFIX}...'")
    if folder is None:
        raise ModelFileError(f"{model} reads prompts with {name!r}. {GIVE}")
    encoder = CLIPText.load(Source(str(folder), offline=True, remedy=GIVE), device)
    width = header["config"].get("text_width", encoder.width)  # a prompt-specific model has none
    if encoder.width != width:
        raise ModelFileError(
            f"{model} reads prompts {width} numbers wide, but {str(folder)!r} makes {encoder.width}; give {name!r}"
        )
    return encoder
