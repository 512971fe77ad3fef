"""Optimizer wrappers for tuning few parameters, and for CPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from toast_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TunedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor that gives tuned parameters, and only those, to the optimizer.

    Takes the same ``paramwise_cfg``.

    Raises:
        ValueError: No parameter is tuned.
    """

    def add_params(self, params: list[dict], module: nn.Module, *args: Any, **kwargs: Any) -> None:
        """Pass over frozen modules; mmengine would warn of each of their parameters."""
        if _is_tuned(module):
            super().add_params(params, module, *args, **kwargs)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper for a model."""
        if not _is_tuned(model):
            raise ValueError('no parameter of the model is tuned: every one is frozen')
        wrapper = super().__call__(model)
        for group in wrapper.optimizer.param_groups:
            group['params'] = [param for param in group['params'] if param.requires_grad]
        return wrapper


def _is_tuned(module: nn.Module) -> bool:
    return any(param.requires_grad for param in module.parameters())


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """bfloat16 autocast on the CPU, where mmengine's ``AmpOptimWrapper`` asks for a GPU.

    bfloat16 has the range of float32, so the loss needs no scaling. Attention is computed by plain
    matrix products: PyTorch's fused kernel for CPUs is several times slower in bfloat16.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Forward pass of a training step under autocast."""
        with (
            super().optim_context(model),
            torch.autocast('cpu', dtype=torch.bfloat16),
            sdpa_kernel(SDPBackend.MATH),
        ):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Backward pass, in which activation checkpointing computes attention once more."""
        with sdpa_kernel(SDPBackend.MATH):
            super().backward(loss, **kwargs)
