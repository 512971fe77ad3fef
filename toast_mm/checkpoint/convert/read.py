"""Reading published checkpoints without running code in them."""

from __future__ import annotations

from collections.abc import Mapping
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from toast_mm.checkpoint import CheckpointError, load_from_local

CONTAINERS = ('model', 'model_state_dict', 'state_dict', 'model_ema')


def read_weights(path: str) -> tuple[dict[str, Tensor], str | None]:
    """Tensors of a ``.npz``, ``.safetensors`` or PyTorch file, and the container they were in.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is damaged, needs unpickling of arbitrary
            objects, or holds no tensors.
    """
    if path.endswith('.npz'):
        return _read_npz(path), None
    checkpoint: Mapping = load_from_local(path, 'cpu')
    container = next((c for c in CONTAINERS if isinstance(checkpoint.get(c), Mapping)), None)
    tensors = checkpoint[container] if container else checkpoint
    weights = {name: t for name, t in tensors.items() if isinstance(t, Tensor)}
    if not weights:
        raise CheckpointError(f'{path} holds no weights, only {", ".join(map(str, tensors))}')
    return weights, container


def _read_npz(path: str) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(np.ascontiguousarray(file[name])) for name in file.files}
    except FileNotFoundError:
        raise FileNotFoundError(f'checkpoint {path} does not exist') from None
    except (BadZipFile, ValueError, EOFError, OSError, TypeError) as error:
        raise CheckpointError(f'{path} is damaged or not an npz file: {error}') from error
