"""Telling one set of weights from another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and values. Order, device and precision in memory do not matter.

    Example:
        >>> fingerprint({'weight': torch.ones(2)}) == fingerprint({'weight': torch.ones(2).half()})
        True
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        if hasattr(tensor, 'full_tensor'):  # sharded: this process holds a part
            tensor = tensor.full_tensor()
        tensor = tensor.to('cpu', torch.float32).contiguous()
        digest.update(f'{name}{tuple(tensor.shape)}'.encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()
