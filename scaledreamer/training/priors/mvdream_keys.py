"""MVDream's released weight names, and what diffusers and transformers call them."""

import re
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from scaledreamer.errors import ModelFileError

UNET, AUTOENCODER, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.model."
CAMERA = UNET + "camera_embed."

# Of a residual block in the U-Net.
RESIDUAL = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip
# Of the attention block in the autoencoder.
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
# Of a layer in the text tower.
LAYER = {
    "ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj", "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}  # fmt: skip


def part(prefix: str, names: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in names.items() if name.startswith(prefix)}


def residual_blocks(names: Iterable[str]) -> int:
    """Residual blocks a level of the U-Net: the first downsampling stands right after the first level's."""
    steps = [int(name.split(".")[1]) for name in names if re.match(r"input_blocks\.\d+\.0\.op\.weight", name)]
    return min(steps) - 1


def unet(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The U-Net for UNet2DConditionModel with a projection class embedding; shapes stay as they are."""
    blocks = residual_blocks(weights)
    return renamed(weights, lambda name: unet_name(name, blocks))


def unet_name(name: str, blocks: int) -> str:
    """One name of the U-Net with `blocks` residual blocks a level. Input block 0 is the first convolution."""

    def place(block: str, first: int) -> tuple[int, int]:
        return divmod(int(block) - first, blocks + 1)

    match name.split("."):
        case ["time_embed", layer, leaf]:
            return f"time_embedding.linear_{1 + int(layer) // 2}.{leaf}"
        case ["camera_embed", layer, leaf]:
            return f"class_embedding.linear_{1 + int(layer) // 2}.{leaf}"
        case ["out", layer, leaf]:
            return f"{'conv_out' if layer == '2' else 'conv_norm_out'}.{leaf}"
        case ["input_blocks", "0", "0", leaf]:
            return f"conv_in.{leaf}"
        case ["input_blocks", block, "0", "op", leaf]:
            return f"down_blocks.{place(block, 1)[0]}.downsamplers.0.conv.{leaf}"
        case ["input_blocks", block, "0", *rest]:
            level, position = place(block, 1)
            return f"down_blocks.{level}.resnets.{position}.{leaf_of(RESIDUAL, rest)}"
        case ["input_blocks", block, "1", *rest]:
            level, position = place(block, 1)
            return f"down_blocks.{level}.attentions.{position}.{'.'.join(rest)}"
        case ["middle_block", "1", *rest]:
            return f"mid_block.attentions.0.{'.'.join(rest)}"
        case ["middle_block", "0" | "2" as block, *rest]:
            return f"mid_block.resnets.{int(block) // 2}.{leaf_of(RESIDUAL, rest)}"
        case ["output_blocks", block, _, "conv", leaf]:  # the upsampling comes last, after an attention or without
            return f"up_blocks.{place(block, 0)[0]}.upsamplers.0.conv.{leaf}"
        case ["output_blocks", block, "0", *rest]:
            level, position = place(block, 0)
            return f"up_blocks.{level}.resnets.{position}.{leaf_of(RESIDUAL, rest)}"
        case ["output_blocks", block, "1", *rest]:
            level, position = place(block, 0)
            return f"up_blocks.{level}.attentions.{position}.{'.'.join(rest)}"
        case _:
            raise unknown(name)


def autoencoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The autoencoder for AutoencoderKL; its attention's 1x1 convolutions become matrices."""
    levels = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("decoder.up."))
    found = renamed(weights, lambda name: autoencoder_name(name, levels))
    return {
        name: tensor.flatten(1) if "attentions" in name and tensor.ndim == 4 else tensor
        for name, tensor in found.items()
    }


def autoencoder_name(name: str, levels: int) -> str:
    """One name of the autoencoder; diffusers counts the decoder's levels from the other end."""
    match name.replace("nin_shortcut", "conv_shortcut").split("."):
        case ["encoder", "down", level, "block", block, *rest]:
            return f"encoder.down_blocks.{level}.resnets.{block}.{'.'.join(rest)}"
        case ["encoder", "down", level, "downsample", *rest]:
            return f"encoder.down_blocks.{level}.downsamplers.0.{'.'.join(rest)}"
        case ["decoder", "up", level, "block", block, *rest]:
            return f"decoder.up_blocks.{levels - 1 - int(level)}.resnets.{block}.{'.'.join(rest)}"
        case ["decoder", "up", level, "upsample", *rest]:
            return f"decoder.up_blocks.{levels - 1 - int(level)}.upsamplers.0.{'.'.join(rest)}"
        case ["encoder" | "decoder" as half, "mid", "attn_1", *rest]:
            return f"{half}.mid_block.attentions.0.{leaf_of(ATTENTION, rest)}"
        case ["encoder" | "decoder" as half, "mid", "block_1" | "block_2" as block, *rest]:
            return f"{half}.mid_block.resnets.{int(block[-1]) - 1}.{'.'.join(rest)}"
        case ["encoder" | "decoder" as half, "norm_out", leaf]:
            return f"{half}.conv_norm_out.{leaf}"
        case ["encoder" | "decoder" as half, "conv_in" | "conv_out" as conv, leaf]:
            return f"{half}.{conv}.{leaf}"
        case ["quant_conv" | "post_quant_conv", _]:
            return name
        case _:
            raise unknown(name)


def text_layers(names: Iterable[str]) -> int:
    """Layers of the text tower that are read: all but the last, for MVDream and SD 2.x read the penultimate output."""
    return max(int(name.split(".")[2]) for name in names if name.startswith("transformer.resblocks."))


def text(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The OpenCLIP text tower for a CLIPTextModel one layer shorter; the last layer and the projection are left out."""
    last = f"transformer.resblocks.{text_layers(weights)}."
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.startswith(last) or name in ("text_projection", "logit_scale"):
            continue
        if ".attn.in_proj_" in name:
            layer, leaf = name.split(".")[2], name.rsplit("_", 1)[1]
            for projection, rows in zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True):
                found[f"encoder.layers.{layer}.self_attn.{projection}.{leaf}"] = rows
        else:
            found[text_name(name)] = tensor
    return found


def text_name(name: str) -> str:
    """One name of the text tower that stands for one tensor on both sides."""
    match name.split("."):
        case ["token_embedding", "weight"]:
            return "embeddings.token_embedding.weight"
        case ["positional_embedding"]:
            return "embeddings.position_embedding.weight"
        case ["ln_final", leaf]:
            return f"final_layer_norm.{leaf}"
        case ["transformer", "resblocks", layer, *rest]:
            return f"encoder.layers.{layer}.{leaf_of(LAYER, rest)}"
        case _:
            raise unknown(name)


def ignored(names: Iterable[str]) -> list[str]:
    """What has no counterpart: the schedule's tables, the text tower's last layer and its projection, another tower."""
    names = list(names)
    tower = [name.removeprefix(TEXT) for name in names if name.startswith(TEXT)]
    last = f"{TEXT}transformer.resblocks.{text_layers(tower)}." if tower else None
    left = []
    for name in names:
        whole_tower = name.startswith("cond_stage_model.") and not name.startswith(TEXT)
        beyond = last is not None and (
            name.startswith(last) or name in (TEXT + "text_projection", TEXT + "logit_scale")
        )
        if "." not in name or whole_tower or beyond:
            left.append(name)
        elif not name.startswith((UNET, AUTOENCODER, TEXT)):
            raise unknown(name)
    return left


def why_ignored(name: str) -> str:
    """Why a name that `ignored` gives has no counterpart."""
    if "." not in name:
        return "a table of the schedule, which the scheduler makes itself"
    if name.startswith(TEXT):
        return "beyond the layer of the text tower that MVDream reads"
    return "a text tower that the prior takes from a Stable Diffusion folder"


def leaf_of(table: dict[str, str], rest: list[str]) -> str:
    """The end of a name by a table; its last word (weight or bias) stays."""
    stem = ".".join(rest[:-1])
    if stem not in table:
        raise unknown(".".join(rest))
    return f"{table[stem]}.{rest[-1]}"


def renamed(weights: dict[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor]:
    """The same tensors under new names."""
    return {rename(name): tensor for name, tensor in weights.items()}


def unknown(name: str) -> ModelFileError:
    """No name is dropped in silence."""
    return ModelFileError(f"{name!r} is no weight of MVDream; give sd-v2.1-base-4view.pt or sd-v1.5-4view.pt")


def is_state_dict(found: object) -> bool:
    """Whether an opened file is a flat dictionary of tensors with a U-Net in it."""
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        return False
    return any(isinstance(name, str) and name.startswith(UNET) for name in found)
