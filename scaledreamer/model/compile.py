"""Compiled networks, each optional: built once, kept on disk, checked against eager; any failure gives eager back."""

import hashlib
import importlib.util
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from torch import Tensor, nn
from torch.fx.node import map_arg

Compiler = Literal["compile", "tensorrt"]
Accelerator = Literal["eager"] | Compiler
ACCELERATORS: tuple[Accelerator, ...] = ("eager", "compile", "tensorrt")
Built = Callable[..., Any]  # takes and gives what the module takes and gives
MAX_BATCH = 16
TOLERANCE = 1e-3  # of the largest number, or of 1: sums in another order, not another precision
TENSORRT_DEVICE = "cuda"
KEPT = "$XDG_CACHE_HOME/scaledreamer/builds, or ~/.cache/scaledreamer/builds"


class AcceleratorWarning(RuntimeWarning):
    """An accelerator was asked for, and eager runs instead."""


@dataclass
class Acceleration:
    """What a part of a pipeline was asked to run on, what it does run on by now, and why where the two differ."""

    part: str
    asked: Accelerator = "eager"
    used: Accelerator = "eager"
    reason: str | None = None

    def __str__(self) -> str:
        return self.used if self.reason is None else f"{self.used} ({self.asked} is not used: {self.reason})"

    def fall_back(self, reason: str) -> None:
        """Eager from now on; a process hears of the same reason once."""
        self.used, self.reason = "eager", reason
        warn_once(f"{self.asked} is not used, eager is: {reason}")


class Accelerated:
    """A module for inference, called as the module is; `acceleration` says what answers.

    A build answers batches of 1 to MAX_BATCH of the example's shapes, types and device; anything else runs eager.
    """

    def __init__(
        self, module: nn.Module, acceleration: Acceleration, built: Built | None = None, example: Sequence[Tensor] = ()
    ) -> None:
        self.module, self.acceleration, self.built = module, acceleration, built
        self.kinds = [kind(tensor) for tensor in example]

    @torch.no_grad()
    def __call__(self, *tensors: Tensor) -> Any:
        fits = [kind(tensor) for tensor in tensors] == self.kinds and 1 <= len(tensors[0]) <= MAX_BATCH
        if self.built is None or not fits:
            return self.module(*tensors)
        try:
            return self.built(*[tensor.contiguous() for tensor in tensors])
        except Exception as error:
            result = self.module(*tensors)  # raises where the input is at fault
            self.built = None
            self.acceleration.fall_back(said(error))
            return result


def accelerate(
    module: nn.Module, example: Sequence[Tensor], accelerator: Accelerator, part: str, folder: Path | None = None
) -> Accelerated:
    """A module on an accelerator, or on eager with one AcceleratorWarning and the reason; never an error.

    `example` are real inputs of 2 to MAX_BATCH rows, on the module's device: what is built is compared with eager on
    them. Builds are kept in `folder` (None: the user's cache), named after the network, its weights, shapes, versions.
    """
    acceleration = Acceleration(part, accelerator, accelerator)
    built: Built | None = None
    if accelerator != "eager":
        reason = missing(accelerator, example[0].device.type)
        try:
            if reason is None:
                with warnings.catch_warnings(action="ignore"):  # what compilers remark about themselves and torch
                    built = obtained(module, example, accelerator, folder or cache_folder())
        except Exception as error:  # of whatever kind: torch_tensorrt raises bare ones
            reason = said(error)
        if reason is not None:
            acceleration.fall_back(reason)
    return Accelerated(module, acceleration, built, example)


@cache
def missing(accelerator: Accelerator, device: str) -> str | None:
    """Why an accelerator cannot serve here; None where it may. Imports torch_tensorrt only where it is installed."""
    match accelerator:
        case "eager":
            return None
        case "compile":
            return None if shutil.which(cpp_compiler()) else f"there is no C++ compiler {cpp_compiler()!r}; install one"
        case "tensorrt":
            if importlib.util.find_spec("torch_tensorrt") is None:
                return "torch_tensorrt is not installed; run: pip install torch-tensorrt (CUDA only)"
            try:
                import_module("torch_tensorrt")
            except Exception as error:  # a bare Exception where libnvinfer is missing
                return f"torch_tensorrt is installed and cannot be imported: {said(error)}"
            return None if device == TENSORRT_DEVICE else f"TensorRT runs on {TENSORRT_DEVICE}, the model on {device}"
        case never:
            assert_never(never)


def described(device: str) -> dict[str, str]:
    """What every accelerator would do on a device, in a line each."""
    does = {
        "eager": "plain PyTorch, always there",
        "compile": f"torch.compile's code, made once with {cpp_compiler()} (minutes) and kept in {KEPT}",
        "tensorrt": f"engines by way of torch.export, made once (minutes) and kept in {KEPT}",
    }
    reasons = {name: missing(name, device) for name in ACCELERATORS}
    return {name: does[name] if why is None else f"falls back to eager: {why}" for name, why in reasons.items()}


def exported(module: nn.Module, example: Sequence[Tensor]) -> torch.export.ExportedProgram:
    """The module's graph over tensors, for any batch of 1 to MAX_BATCH."""
    return torch.export.export(module, tuple(example), dynamic_shapes=dynamic_batch(example), strict=False)


def dynamic_batch(example: Sequence[Tensor]) -> tuple[dict[int, Any], ...]:
    """What torch.export calls dynamic shapes: the first dimension of every input, the same for all."""
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    return tuple({0: batch} for _ in example)


@torch.no_grad()
def obtained(module: nn.Module, example: Sequence[Tensor], accelerator: Compiler, folder: Path) -> Built:
    """A build that agrees with eager: the one on disk, or a new one. Raises whatever goes wrong."""
    program = exported(module, example)
    path = folder / f"{accelerator}-{fingerprint(program, example, accelerator)}.pt2"
    if path.is_file():
        try:
            return checked(load(path, accelerator), module, example)
        except Exception:  # damaged, or of a machine that only looked the same
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # what lies here is executed
    with tempfile.TemporaryDirectory(dir=folder) as making:
        partial = Path(making) / path.name
        build(program, example, accelerator, partial)
        partial.replace(path)
    return checked(load(path, accelerator), module, example)


def build(program: torch.export.ExportedProgram, example: Sequence[Tensor], accelerator: Compiler, path: Path) -> None:
    """Write what an accelerator makes of a graph. TensorRT's part is written from its documentation; has never run."""
    match accelerator:
        case "compile":  # torch.compile's backend ahead of time: no request ever waits for another batch size
            from torch import _inductor

            _inductor.aoti_compile_and_package(program, package_path=str(path))
        case "tensorrt":
            tensorrt: Any = import_module("torch_tensorrt")
            inputs = [
                tensorrt.Input(
                    min_shape=(1, *tensor.shape[1:]), opt_shape=tuple(tensor.shape),
                    max_shape=(MAX_BATCH, *tensor.shape[1:]), dtype=tensor.dtype,
                )
                for tensor in example
            ]  # fmt: skip
            # Without disable_tf32 products keep ten bits, and agree with eager no more than that.
            engine = tensorrt.dynamo.compile(program, inputs, disable_tf32=True)
            tensorrt.save(engine, str(path), arg_inputs=list(example), dynamic_shapes=dynamic_batch(example))
        case never:
            assert_never(never)


def load(path: Path, accelerator: Compiler) -> Built:
    """What `build` wrote, ready to be called."""
    if accelerator == "compile":
        from torch import _inductor

        package: Built = _inductor.aoti_load_package(str(path))
        return package
    return torch.export.load(path).module()


def checked(built: Built, module: nn.Module, example: Sequence[Tensor]) -> Built:
    """The same build, after it has agreed with eager on one row of the example and on all. Raises ValueError."""
    for batch in (1, len(example[0])):
        rows = [tensor[:batch] for tensor in example]
        for found, expected in zip(outputs(built(*rows)), outputs(module(*rows)), strict=True):
            if found.shape != expected.shape or found.dtype != expected.dtype:
                raise ValueError(f"it gives {found.dtype} {tuple(found.shape)}, not {tuple(expected.shape)}")
            error = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
            if not error <= TOLERANCE:  # nor where it is no number
                raise ValueError(f"it differs from eager by {error:.2g} on {batch} prompts, more than {TOLERANCE:g}")
    return built


def fingerprint(program: torch.export.ExportedProgram, example: Sequence[Tensor], accelerator: Compiler) -> str:
    """sha256 of the graph, its weights, the inputs' shapes, the versions and the processor."""
    device = example[0].device
    chip = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    facts = [
        accelerator, *(str(kind(tensor)) for tensor in example), str(MAX_BATCH), *steps(program),
        platform.machine(), chip, *(installed(name) for name in ("torch", "torch_tensorrt", "tensorrt")),
    ]  # fmt: skip
    digest = hashlib.sha256("\0".join(facts).encode())
    for name, tensor in sorted({**program.state_dict, **program.constants}.items()):
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:32]


def steps(program: torch.export.ExportedProgram) -> Iterator[str]:
    """A graph in words, its nodes by number: their names depend on what was asked of shapes while it was traced."""
    numbers = {node: f"%{number}" for number, node in enumerate(program.graph.nodes)}
    for node in program.graph.nodes:
        given = map_arg((node.args, node.kwargs), lambda other: numbers[other])
        yield f"{node.op} {getattr(node.target, '__name__', node.target)} {given}"


def kind(tensor: Tensor) -> tuple[tuple[int, ...], torch.dtype, str]:
    """What a build is made for, the batch aside."""
    return tuple(tensor.shape[1:]), tensor.dtype, tensor.device.type


def outputs(result: Any) -> Sequence[Tensor]:
    """What a module gives, as a sequence."""
    return result if isinstance(result, tuple | list) else (result,)


@cache
def warn_once(message: str) -> None:
    """One AcceleratorWarning for a message."""
    warnings.warn(message, AcceleratorWarning, stacklevel=2)


def said(error: Exception) -> str:
    """An error in a line: its class and how its message begins."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def cpp_compiler() -> str:
    """The compiler that torch would call."""
    return os.environ.get("CXX", "clang++" if platform.system() == "Darwin" else "g++")


def cache_folder() -> Path:
    """Where builds are kept: KEPT, as it is here."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaledreamer" / "builds"


def installed(package: str) -> str:
    """A package's version, empty without one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
