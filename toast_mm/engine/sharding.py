"""Fully sharded data parallelism: every process holds a part of all weights (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.utils import digit_version
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

try:
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    from torch.distributed.tensor import DTensor, distribute_tensor
except ImportError:  # an older PyTorch
    pass

from toast_mm.engine.config import ConfigError
from toast_mm.engine.model import backbone_of
from toast_mm.registry import MODEL_WRAPPERS, type_name
from toast_mm.topdown.feedback import FeedbackLayer

OPTIM_WRAPPERS = ('OptimWrapper', 'BFloat16OptimWrapper')
# Hooks that copy the model, change its memory, or run parts of the backbone alone.
REFUSED = {
    'EMAHook': 'it copies the model',
    'ChannelsLastHook': 'it changes the memory of sharded weights',
    'CompileHook': 'nobody has tested compiled backbones with sharded weights',
    'AttentionHook': 'it runs blocks of the backbone in a single process',
    'FirstPassCacheHook': 'with cached first passes a frozen backbone need not be sharded',
    'MeanTokenInitHook': 'it runs parts of the backbone outside a training step',
    'PretunedHook': 'it writes weights of a single process',
}


@MODEL_WRAPPERS.register_module()
class FullyShardedDataParallel(nn.Module):
    """Shard the weights of a model over all processes by PyTorch's ``fully_shard``.

    ``toast_mm.Runner`` uses it in distributed runs with
    ``model_wrapper_cfg=dict(type='toast_mm.FullyShardedDataParallel')``. Every block of the
    backbone is a group: its weights are gathered when it runs, and freed. So is every layer of the
    feedback path. The rest, such as embedding and heads, is gathered for a whole pass. Frozen and
    tuned parameters share groups; frozen ones have no gradients and no optimizer state.

    A process holds its part of weights, gradients and optimizer state. Files hold all: they are the
    same as those of one process, and each of them reads the other's.

    The model stays whole on the CPU until :meth:`shard`.

    Args:
        module: The model. Its backbone is one of toast_mm.

    Raises:
        ImportError: PyTorch is older than 2.7.
        ValueError: The backbone is not one of toast_mm.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        if digit_version(torch.__version__) < digit_version('2.7'):
            raise ImportError(
                f'FullyShardedDataParallel needs PyTorch 2.7 or newer; this is {torch.__version__}'
            )
        backbone = backbone_of(module, 'FullyShardedDataParallel')
        if not hasattr(backbone, 'block_modules'):
            raise ValueError(
                f'FullyShardedDataParallel: {type(backbone).__name__} does not name its blocks; '
                'use toast_mm.TOASTViT, TOASTConvNeXt or TOASTTimm, with feedback_from=None for no '
                'feedback'
            )
        self.module: Any = module
        self.sharded = False

    def init_weights(self) -> None:
        """Initialise the whole model in every process."""
        if hasattr(self.module, 'init_weights'):
            self.module.init_weights()

    def shard(self) -> None:
        """Keep this process's part of all weights, on its device. Once sharded, do nothing."""
        if self.sharded:
            return
        device = torch.device(get_device())
        mesh = init_device_mesh(device.type, (get_world_size(),))
        for part in (*_parts(self.module.backbone), self.module):
            # Also of the last one, so that outside a step every parameter is a part.
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
            if isinstance(part, FeedbackLayer):
                register_fsdp_forward_method(part, 'run')
        self.module.to(device)  # buffers, and the place of the data preprocessor
        for module in self.module.modules():
            # Behind the hooks of a backbone, which complete and check the weights.
            module._register_load_state_dict_pre_hook(_take_parts, with_module=True)
        self.sharded = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """Train on a batch."""
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> list:
        """Predict a batch."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> list:
        """Predict a batch."""
        return self.module.test_step(data)

    @contextmanager
    def whole_states(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """Make the state dicts of model and optimizer whole in process 0 inside the context.

        All processes must enter it: they send their parts.
        """
        parts: Any = self.module.state_dict()
        weights = _gather(parts)
        weights._metadata = parts._metadata  # versions of the modules
        state = _gather(optimizer.state_dict())
        hooks = [
            self.module._register_state_dict_hook(lambda *args: weights),
            optimizer.register_state_dict_post_hook(lambda *args: state),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def take_optimizer_parts(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Replace whole tensors in the state of an optimizer by this process's part.

    Args:
        optimizer: Optimizer of sharded parameters.
        state: Its state dict in a checkpoint, which is changed in place.
    """
    parameters = [p for group in optimizer.param_groups for p in group['params']]
    numbers = [number for group in state['param_groups'] for number in group['params']]
    for number, parameter in zip(numbers, parameters, strict=True):
        entries = state['state'].get(number, {})
        for name, value in entries.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                entries[name] = _part_of(value, parameter)


def check_sharding(cfg: Config, hooks: list) -> None:
    """Check that a training with sharded weights only asks for what works with them.

    Raises:
        ConfigError: The optimizer wrapper or a hook does not; the message says what does.
    """
    wrapper = cfg.get('optim_wrapper')
    kind = type_name(wrapper) if isinstance(wrapper, Mapping) else ''
    if kind and kind not in OPTIM_WRAPPERS:
        raise ConfigError(
            f'optim_wrapper.type={kind!r} does not work with FullyShardedDataParallel: use '
            "'OptimWrapper', or for mixed precision 'toast_mm.BFloat16OptimWrapper'"
        )
    for key in ('val_evaluator', 'test_evaluator'):
        metrics = cfg.get(key) or []
        for metric in [metrics] if isinstance(metrics, Mapping) else metrics:
            if type_name(metric) == 'AttentionInside':
                raise ConfigError(
                    f'{key}: AttentionInside does not work with FullyShardedDataParallel, since it '
                    'runs blocks of the backbone outside a step of the model: leave out one of them'
                )
    for hook in hooks:
        for parent in type(hook).__mro__:
            if reason := REFUSED.get(parent.__name__):
                raise ConfigError(
                    f'{parent.__name__} does not work with FullyShardedDataParallel: {reason}; '
                    'leave out one of them'
                )


def _parts(backbone: Any) -> Iterator[nn.Module]:
    """Parts of a backbone that are gathered on their own. Nobody takes weights out of them."""
    for block in range(backbone.depth):
        for module in backbone.block_modules(block):
            # A stage of mmpretrain's ConvNeXt is a sequence whose layers are called one by one.
            layers = module if isinstance(module, nn.Sequential) else [module]
            yield from (layer for layer in layers if any(layer.children()))
    if backbone.topdown is not None:
        yield from backbone.topdown.feedback.layers.values()


def _take_parts(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
    """Replace whole tensors by this process's part before a module loads its own parameters."""
    parameters: Any = module.named_parameters(recurse=False)
    for name, parameter in parameters:
        value = state_dict.get(f'{prefix}{name}')
        sharded = isinstance(parameter, DTensor) and not isinstance(value, DTensor)
        if sharded and value is not None and value.shape == parameter.shape:
            state_dict[f'{prefix}{name}'] = _part_of(value, parameter)


def _part_of(value: Tensor, parameter: DTensor) -> DTensor:
    """The part of a whole tensor, which all processes hold, that belongs to a sharded parameter."""
    mesh, placements = parameter.device_mesh, parameter.placements
    return distribute_tensor(value.to(parameter.device), mesh, placements, src_data_rank=None)


def _gather(state: Any) -> Any:
    """Whole tensors of a state in process 0, on the CPU; nothing in the other processes."""
    if isinstance(state, DTensor):
        whole = state.full_tensor()
        return whole.cpu() if is_main_process() else None
    if isinstance(state, dict):
        return type(state)((key, _gather(value)) for key, value in state.items())
    if isinstance(state, list):
        return [_gather(value) for value in state]
    return state
