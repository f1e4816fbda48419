"""A computation that is only imagined, shapes without numbers: what it keeps in memory, how long it takes at least."""

import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten
DRAWS = 1000  # prompts are drawn until they differ
READS = {"index", "index_put", "index_put_", "_index_put_impl_"}  # whose second argument may be a mask
ATTENTION: dict[Any, tuple[Callable[..., int], int]] = {  # on a CPU, which torch's own table leaves out
    aten._scaled_dot_product_flash_attention_for_cpu: (sdpa_flop_count, 3),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (sdpa_backward_flop_count, 4),
}


@dataclass(frozen=True)
class Rates:
    """How fast a machine is: floating point operations a second (a multiply-add is two) and bytes a second."""

    name: str
    float32: float
    float16: float
    memory: float


class Ledger(TorchDispatchMode):
    """Books every tensor of an imagined computation to the part that was at work when it was made.

    Memory is that of the tensors alive; what kernels, allocators and drivers need beside it is not in it. Seconds are
    the sum over all operations of the longer of FLOPs / rate and bytes read and written / bandwidth. `share` of every
    mask is taken as true.
    """

    def __init__(self, rates: Rates, share: float = 1.0) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rates, self.share, self.part = rates, share, ""
        self.integers = count()
        self.booked: dict[int, tuple[str, int]] = {}
        self.alive: Counter[str] = Counter()  # bytes
        self.most: Counter[str] = Counter()  # bytes, of each part for itself
        self.peak = 0  # bytes, of all together
        self.at_peak: dict[str, int] = {}
        self.flops: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}

    def work_on(self, part: str) -> None:
        """Everything from now on belongs to a part."""
        self.part = part

    def hold(self, part: str, tensors: Iterable[Tensor]) -> None:
        """Book the storages of tensors that are not booked yet."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self.booked:
                self.booked[key] = part, storage.nbytes()
                weakref.finalize(storage, self.release, key)
                self.add(part, storage.nbytes())

    def release(self, key: int) -> None:
        """A storage is gone."""
        part, size = self.booked.pop(key)
        self.alive[part] -= size

    def move(self, tensor: Tensor, part: str) -> None:
        """Book a tensor's storage to another part."""
        key = tensor.untyped_storage()._cdata
        before, size = self.booked[key]
        self.booked[key] = part, size
        self.alive[before] -= size
        self.add(part, size)

    def add(self, part: str, size: int) -> None:
        """So many bytes more."""
        self.alive[part] += size
        self.most[part] = max(self.most[part], self.alive[part])
        total = self.alive.total()
        if total > self.peak:
            self.peak, self.at_peak = total, dict(self.alive)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if "generator" in kwargs:  # imagined numbers are not drawn
            kwargs["generator"] = None
        name = func._opname
        if name == "_local_scalar_dense":
            return self.answer(args[0].dtype)
        if name == "nonzero":
            return torch.stack(self.places(args[0]), dim=-1)
        if name in READS:
            found = [self.places(i) if i is not None and i.dtype == torch.bool else [i] for i in args[1]]
            args = args[0], [index for indices in found for index in indices], *args[2:]
        out = func(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        self.hold(self.part, made)
        if not func.is_view:
            self.weigh(func, args, kwargs, out, made)
        return out

    def answer(self, dtype: torch.dtype) -> bool | int | float:
        """A number that the computation wants to know: true, 1.0, or one of DRAWS integers in turn."""
        if dtype == torch.bool:
            return True
        return 1.0 if dtype.is_floating_point else next(self.integers) % DRAWS

    def places(self, mask: Tensor) -> list[Tensor]:
        """Indices of the true entries, as many as `share` says, one tensor a dimension."""
        true = max(1, round(self.share * mask.numel()))
        return [torch.empty(true, dtype=torch.long, device=mask.device) for _ in range(mask.ndim)]

    def weigh(self, func: Any, args: Any, kwargs: Any, out: Any, made: list[Tensor]) -> None:
        """Book an operation's work."""
        packet, flops = func._overloadpacket, 0
        if packet in ATTENTION:
            formula, inputs = ATTENTION[packet]
            flops = formula(*(tensor.shape for tensor in args[:inputs]))
        elif packet in flop_registry:
            flops = flop_registry[packet](*args, **kwargs, out_val=out)
        touched = [*made, *(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))]
        moved = sum(tensor.numel() * tensor.element_size() for tensor in touched)
        half = bool(made) and made[0].dtype == torch.float16
        rate = self.rates.float16 if half else self.rates.float32
        self.flops[self.part] += flops
        took = max(flops / rate, moved / self.rates.memory)
        self.seconds[self.part] = self.seconds.get(self.part, 0.0) + took


@contextmanager
def imagined() -> Iterator[None]:
    """Tensors made in here have shapes and no numbers."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode, patch.object(nn.Module, "_apply", convert), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # torch's own deepcopy does
        yield


def convert(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`module.to(...)` by new parameters, for torch refuses to swap imagined ones in place."""
    for child in module.children() if recurse else ():
        convert(child, function)
    with torch.no_grad():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(function(parameter.detach()), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = function(buffer)
    return module


def assign(ledger: Ledger, module: nn.Module, part: str) -> None:
    """Book a module's forward pass, and its share of every backward pass, to a part."""
    around: list[str] = []

    def enter(_: nn.Module, args: Any) -> None:
        around.append(ledger.part)
        ledger.work_on(part)

    def leave(_: nn.Module, args: Any, out: Any) -> None:
        outside = around.pop()
        ledger.work_on(outside)
        # Gradients come from behind: once that of an output is known the module's own pass begins, and once that of an
        # input is known it is over.
        for tensors, then in ((out, part), (args, outside)):
            for tensor in tensors_in(tensors):
                if tensor.requires_grad:
                    tensor.register_hook(switch(ledger, then))

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave, always_call=True)  # a recomputation may stop half-way


def switch(ledger: Ledger, part: str) -> Callable[[Tensor], None]:
    """A hook that begins a part."""

    def hook(_: Tensor) -> None:
        ledger.work_on(part)

    return hook


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors of nested containers and of plain objects, networks excepted."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from tensors_in(inner)
    elif hasattr(value, "__dict__") and not isinstance(value, nn.Module):
        yield from tensors_in(list(vars(value).values()))
