"""Optimizer wrappers for tuning few parameters, and for bfloat16."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from toast_mm.engine.config import near_names
from toast_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TunedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor that passes only tuned parameters to the optimizer.

    It takes the same ``paramwise_cfg``.

    Raises:
        ValueError: No parameter is tuned.
    """

    def add_params(self, params: list[dict], module: nn.Module, *args: Any, **kwargs: Any) -> None:
        """Skip frozen modules; mmengine would warn about each of their parameters."""
        if _is_tuned(module):
            super().add_params(params, module, *args, **kwargs)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper for a model."""
        name = self.optimizer_cfg.get('type')
        with OPTIMIZERS.switch_scope_and_registry(None) as registry:
            unknown = isinstance(name, str) and (not name or registry.get(name) is None)
        if unknown:
            raise ValueError(
                f'optim_wrapper.optimizer.type={name!r} is not an optimizer'
                f'{near_names(name, OPTIMIZERS.module_dict)}'
            )
        if not _is_tuned(model):
            raise ValueError('no parameter of the model is tuned: all of them are frozen')
        wrapper = super().__call__(model)
        for group in wrapper.optimizer.param_groups:
            group['params'] = [param for param in group['params'] if param.requires_grad]
        return wrapper


def _is_tuned(module: nn.Module) -> bool:
    return any(param.requires_grad for param in module.parameters())


def computes_bfloat16(device: str | torch.device, what: str) -> bool:
    """Whether to compute in bfloat16 on a CPU or a GPU; if not, the log says why.

    Without bfloat16 units every number is converted: a CPU is three times slower than with float32.

    Args:
        device: Device of the model.
        what: Name of the computation for the log, such as 'training'.
    """
    device = torch.device(device)
    if device.type not in ('cpu', 'cuda'):
        reason = f'bfloat16 is meant for a CPU or a GPU, and the model is on {device}'
    elif device.type == 'cpu' and not _processor_has_bfloat16():
        reason = 'this processor has no bfloat16 units and would be slower with it'
    elif device.type == 'cuda' and not torch.cuda.is_bf16_supported(including_emulation=False):
        reason = 'this GPU has no bfloat16 units and would be slower with it'
    else:
        return True
    print_log(f'{what} uses float32: {reason}', 'current', logging.WARNING)
    return False


def _processor_has_bfloat16() -> bool:
    mkldnn = torch.backends.mkldnn
    return mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """bfloat16 autocast on a CPU or a GPU; mmengine's ``AmpOptimWrapper`` needs a GPU.

    bfloat16 has the range of float32, so the loss needs no scaling. On a CPU, attention uses plain
    matrix products: PyTorch's fused kernel for CPUs is several times slower in bfloat16.

    Without bfloat16 units it computes in float32 like mmengine's ``OptimWrapper``, and the log says
    so. Its saved state is the same in all cases, so a training can be resumed on another machine.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        device = self.optimizer.param_groups[0]['params'][0].device
        self.device_type = device.type
        self.bfloat16 = computes_bfloat16(device, 'training')
        self.plain_attention = self.bfloat16 and device.type == 'cpu'

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Forward pass of a training step under autocast."""
        with super().optim_context(model), ExitStack() as stack:
            if self.bfloat16:
                stack.enter_context(torch.autocast(self.device_type, dtype=torch.bfloat16))
            if self.plain_attention:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Backward pass; activation checkpointing computes attention again in it."""
        with sdpa_kernel(SDPBackend.MATH) if self.plain_attention else nullcontext():
            super().backward(loss, **kwargs)
