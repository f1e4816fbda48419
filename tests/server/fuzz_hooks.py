"""What no document can tell Schemathesis: which model is loaded, and that an idempotency key is for one request."""

import itertools
from typing import Any

import schemathesis

numbers = itertools.count()


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if case.meta and case.meta.generation.mode.is_positive:
        if isinstance(case.body, dict):
            case.body.pop("model", None)
        if case.headers and "Idempotency-Key" in case.headers:
            case.headers["Idempotency-Key"] = f"key-{next(numbers)}"
