"""Making a batch of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mmengine.dataset

from toast_mm.registry import FUNCTIONS


@FUNCTIONS.register_module()
def default_collate(samples: Sequence, _scope_: str | None = None) -> Any:
    """mmengine's ``default_collate``, for configs that may be inherited by name.

    In such configs mmengine writes ``_scope_`` into every dict with a type. It removes the key
    before it builds an object, but passes it to a ``collate_fn`` as an argument.

    Args:
        samples: Samples of the batch, as the pipeline returns them.
        _scope_: Unused.
    """
    return mmengine.dataset.default_collate(samples)
