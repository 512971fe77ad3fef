"""mmengine's Runner for tuning: standard hooks, and changes that hooks cannot make."""

from __future__ import annotations

import atexit
import copy
import gc
import os.path as osp
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import mmengine.hooks
import mmengine.registry
import mmengine.runner
import mmpretrain.engine
import mmseg.engine
import torch
from mmengine.config import Config
from mmengine.dist import is_distributed, master_only
from mmengine.hooks import Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader
from torch import nn

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.base import fetch_bases
from toast_mm.engine.backends import whole_files
from toast_mm.engine.config import ConfigError
from toast_mm.engine.config_check import check_config
from toast_mm.engine.dataloaders import build_dataloader, stop_workers
from toast_mm.engine.hooks import (
    CheckpointHook,
    EarlyStoppingHook,
    EvaluationPrecisionHook,
    FiniteCheckHook,
    PreemptionHook,
    ResumeHook,
    SegVisualizationHook,
    TunedParametersHook,
    VisualizationHook,
    WriteCheckHook,
)
from toast_mm.engine.launcher import end_with_launcher
from toast_mm.engine.resumption import find_start, latest_checkpoint
from toast_mm.engine.sharding import (
    FullyShardedDataParallel,
    check_sharding,
    take_optimizer_parts,
)
from toast_mm.files import atomic_write, naming_files
from toast_mm.keys import asked_hooks, check_names, note_reader
from toast_mm.registry import MODEL_WRAPPERS, RUNNERS, type_name

# Hooks that replace those that a config names.
OWN_HOOKS = {
    mmengine.hooks.CheckpointHook: CheckpointHook,
    mmengine.hooks.EarlyStoppingHook: EarlyStoppingHook,
    mmpretrain.engine.VisualizationHook: VisualizationHook,
    mmseg.engine.SegVisualizationHook: SegVisualizationHook,
}
# Hooks that every run gets unless the config names them; ResumeHook must be the last one.
STANDING_HOOKS = (
    WriteCheckHook,
    EvaluationPrecisionHook,
    TunedParametersHook,
    FiniteCheckHook,
    PreemptionHook,
    ResumeHook,
)


@RUNNERS.register_module()
class Runner(mmengine.runner.Runner):
    """mmengine's ``Runner``; configs choose it by ``runner_type='toast_mm.Runner'``.

    Most features are hooks, which work under any Runner. This Runner adds hooks so that a config
    need not name them:

    - Every run has the hooks of ``STANDING_HOOKS``.
    - The hooks of ``OWN_HOOKS`` replace those of mmengine and mmpretrain.
    - Top-level keys stand for hooks: ``task_files=True``, ``first_pass_cache=True``,
      ``channels_last=True``, ``compile=True`` and ``resume_settings='config'``. Their value may
      also be a dict of arguments; see ``SWITCHES`` in ``toast_mm/keys.py``.

    It also does what a hook cannot do:

    - Wrong settings are an error before anything is built.
    - Testing and resuming need every key of the model. Starting from another model's weights
      (``load_from``) needs those of the backbone, and warns about others.
    - If the config has no seed, a resumed run takes the seed of the checkpoint before anything is
      built.
    - An error of writing names the file and leaves no incomplete file. A config in the work
      directory is not overwritten by the config of the run.
    - An empty data set is an error when it is built.
    - ``channels_last=True`` takes effect before DDP records the memory format.
    - Distributed runs work on machines without a GPU: with gloo, and BN in place of SyncBN. Each
      process then keeps its own statistics, and process 0 saves. Processes whose launcher has
      ended end too.
    - It trains with :class:`FullyShardedDataParallel`, whose processes save and load together.
    """

    _check_all = False

    def setup_env(self, env_cfg: dict) -> None:
        """Set up as mmengine does, but also without a GPU, and end when ``torchrun`` has ended."""
        if self.distributed:
            end_with_launcher()
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            torch.distributed.init_process_group('gloo')
            atexit.register(_leave_process_group)
        super().setup_env(env_cfg)

    @master_only
    def dump_config(self) -> None:
        """Dump the config as mmengine does, unless its source is the target in the ``work_dir``.

        The config of the run, with changes such as ``--cfg-options``, is always next to the log.
        """
        source = self.cfg.filename or f'{self.timestamp}.py'
        target = osp.join(self.work_dir, osp.basename(source))
        if osp.isfile(target) and osp.isfile(source) and osp.samefile(source, target):
            self.logger.info(
                f'{target} is not overwritten; the settings of this run are next to the log'
            )
            return
        with atomic_write(target) as partial:
            self.cfg.dump(partial)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap as mmengine does, but with a DDP wrapper that works without a GPU."""
        if self.cfg.get('channels_last'):  # before hooks exist, since DDP records the memory format
            model.to(memory_format=torch.channels_last)
        if self.distributed and not torch.cuda.is_available():
            model = revert_sync_batchnorm(model)
        if self.distributed and _is_sharding(model_wrapper_cfg):  # on its device once it is sharded
            return MODEL_WRAPPERS.build(model_wrapper_cfg, default_args=dict(module=model))
        if self.distributed and not torch.cuda.is_available():
            defaults = dict(
                type='MMDistributedDataParallel',
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get('find_unused_parameters', False),
            )
            model_wrapper_cfg = {**defaults, **(model_wrapper_cfg or {})}
        return super().wrap_model(model_wrapper_cfg, model)

    @classmethod
    @naming_files()
    def from_cfg(cls, cfg: Config) -> Runner:
        """Build as mmengine does; a resumed run has the seed of its checkpoint."""
        check_config(cfg)
        if cfg.get('model') is None:
            raise ConfigError('the config has no model')
        cfg = copy.deepcopy(cfg)
        randomness = cfg.get('randomness') or {}
        if cfg.get('resume') and randomness.get('seed') is None:
            start = cfg.get('load_from') or latest_checkpoint(cfg['work_dir'])
            if start is not None:
                checkpoint = CheckpointLoader.load_checkpoint(start, map_location='cpu')
                cfg['randomness'] = {**randomness, 'seed': checkpoint.get('meta', {}).get('seed')}
        return super().from_cfg(cfg)

    build_dataloader = staticmethod(build_dataloader)

    @naming_files()
    def train(self) -> nn.Module:
        """Train as mmengine does, but download the base first.

        At the end, signals are given back and the processes that load data end.
        """
        fetch_bases(self.model)
        if isinstance(self.model, FullyShardedDataParallel):
            self.model.init_weights()
            self.model.shard()  # before the optimizer is built
        try:
            return super().train()
        finally:
            for loop in (self._train_loop, self._val_loop):
                stop_workers(loop)
            for hook in self.hooks:
                if isinstance(hook, PreemptionHook):
                    hook.restore()

    @naming_files()
    def val(self) -> dict:
        """As mmengine."""
        self._shard()
        return super().val()

    @naming_files()
    def test(self) -> dict:
        """Test as mmengine does, with a checkpoint that must hold the whole model."""
        find_start(self)
        self._resume = False
        self._check_all = True
        self._shard()
        return super().test()

    def _shard(self) -> None:
        if isinstance(self.model, FullyShardedDataParallel):
            self.model.shard()

    def _init_model_weights(self) -> None:
        """Initialise as mmengine does; sharded weights are initialised before they are sharded."""
        if not isinstance(self.model, FullyShardedDataParallel):
            super()._init_model_weights()

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool | None = None,
        revise_keys: list = [(r'^module.', '')],  # noqa: B006  mmengine's signature
    ) -> dict:
        """Load weights; by default strictly when testing and resuming.

        Raises:
            CheckpointError: The file does not fit; the message names it and what is missing.
        """
        if strict is None:
            strict = self._resume or self._check_all
        sharded = isinstance(self.model, FullyShardedDataParallel)
        if sharded:
            map_location = 'cpu'  # a device may not hold the whole model
        try:
            checkpoint = super().load_checkpoint(filename, map_location, strict, revise_keys)
        except RuntimeError as error:
            source = '' if filename in str(error) else f'{filename}: '
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise CheckpointError(source + '; '.join(lines)) from error
        if sharded and self._resume:
            take_optimizer_parts(self.optim_wrapper.optimizer, checkpoint['optimizer'])
        return checkpoint

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register mmengine's hooks, those of the keys of the config, and the standard ones.

        Raises:
            ValueError: A key is misspelt, or its hook is also in ``custom_hooks``.
        """
        super().register_hooks(*args, **kwargs)
        check_names(self.cfg)
        note_reader(self.message_hub)
        for key, hook in asked_hooks(self.cfg).items():
            if self._has_hook(HOOKS.get(hook['type'])):
                name = hook['type'].removeprefix('toast_mm.')
                raise ValueError(
                    f'{key} and {name} in custom_hooks are the same hook: leave out one of them'
                )
            self.register_hook(hook)
        for kind in STANDING_HOOKS:
            if not self._has_hook(kind):
                self.register_hook(kind())
        if isinstance(self.model, FullyShardedDataParallel):
            check_sharding(self.cfg, self.hooks)

    def _has_hook(self, kind: Any) -> bool:
        return any(isinstance(hook, kind) for hook in self.hooks)

    def register_hook(self, hook: Hook | dict, *args: Any, **kwargs: Any) -> None:
        """Register a hook as mmengine does, or its replacement from ``OWN_HOOKS``."""
        if isinstance(hook, dict) and 'type' in hook:
            if not hook['type']:
                raise ConfigError(f'type={hook["type"]!r} names no hook: {hook}')
            with HOOKS.switch_scope_and_registry(hook.get('_scope_')) as registry:
                kind = registry.get(hook['type']) if isinstance(hook['type'], str) else hook['type']
            hook = {**hook, 'type': OWN_HOOKS.get(kind, hook['type'])}
        super().register_hook(hook, *args, **kwargs)

    def _maybe_compile(self, target: str) -> None:
        """Compile nothing: the key ``compile`` stands for :class:`CompileHook`."""

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Save as mmengine does, with an atomic write."""
        if kwargs.get('backend_args') is None and not (args and args[0]):
            kwargs['backend_args'] = whole_files(out_dir)
        with ExitStack() as stack:
            if isinstance(self.model, FullyShardedDataParallel):
                stack.enter_context(self.model.whole_states(self.optim_wrapper.optimizer))
            super().save_checkpoint(out_dir, filename, *args, **kwargs)


def _is_sharding(wrapper: dict | None) -> bool:
    """Whether the config of a wrapper is that of sharded weights."""
    return wrapper is not None and type_name(wrapper) == 'FullyShardedDataParallel'


def _leave_process_group() -> None:
    """Stop gloo's threads; an interpreter that ends while they run sometimes aborts."""
    gc.collect()  # collects the model's wrapper, which holds the group, from reference cycles
    if is_distributed():
        torch.distributed.destroy_process_group()


def build_runner(cfg: Config) -> mmengine.runner.Runner:
    """Build the Runner that a config names; the default is toast_mm's."""
    return mmengine.registry.RUNNERS.build(cfg) if cfg.get('runner_type') else Runner.from_cfg(cfg)


def check_settings(cfg: Config) -> None:
    """Check what toast_mm's Runner checks before it builds anything, if the config names it.

    Raises:
        ConfigError: A setting is wrong.
    """
    if cfg.get('runner_type') in (None, Runner, 'toast_mm.Runner'):
        check_config(cfg)
