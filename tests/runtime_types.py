"""The type checker that tests put on every function of the package: beartype, told what it cannot resolve by itself."""

from collections.abc import Callable
from typing import Any, Self

from beartype import BeartypeConf, FrozenDict, beartype
from beartype.roar import BeartypeDecorHintPep3119Exception

# jaxtyping decorates functions one by one, where `Self` has no class to mean.
CONF = BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({Self: Any}))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its annotations as assertions; as it was where one names a Protocol, which has no instances."""
    try:
        return beartype(function, conf=CONF)
    except BeartypeDecorHintPep3119Exception:
        return function
