"""mmengine's Runner for tuning: what no hook can do, and the hooks that every run has."""

from __future__ import annotations

import atexit
import copy
import gc
import os.path as osp
from collections.abc import Callable
from typing import Any

import mmengine.hooks
import mmengine.registry
import mmengine.runner
import mmpretrain.engine
import torch
from mmengine.config import Config
from mmengine.dist import is_distributed, master_only
from mmengine.hooks import Hook
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import HOOKS
from mmengine.runner import CheckpointLoader
from torch import nn

from toast_mm.checkpoint import CheckpointError
from toast_mm.engine.backends import whole_files
from toast_mm.engine.config_check import check_config
from toast_mm.engine.dataloaders import build_dataloader
from toast_mm.engine.hooks import (
    CheckpointHook,
    EarlyStoppingHook,
    EvaluationPrecisionHook,
    FiniteCheckHook,
    ResumeHook,
    TunedParametersHook,
    VisualizationHook,
    WriteCheckHook,
)
from toast_mm.engine.resumption import find_start, latest_checkpoint
from toast_mm.files import atomic_write, naming_files
from toast_mm.keys import asked_hooks, check_names, note_reader
from toast_mm.registry import RUNNERS

# Hooks that take the place of those that a config names.
OWN_HOOKS = {
    mmengine.hooks.CheckpointHook: CheckpointHook,
    mmengine.hooks.EarlyStoppingHook: EarlyStoppingHook,
    mmpretrain.engine.VisualizationHook: VisualizationHook,
}
# Hooks of every run, unless the config names them; ResumeHook is the last one.
STANDING_HOOKS = (
    WriteCheckHook,
    EvaluationPrecisionHook,
    TunedParametersHook,
    FiniteCheckHook,
    ResumeHook,
)


@RUNNERS.register_module()
class Runner(mmengine.runner.Runner):
    """mmengine's ``Runner``; configs choose it by ``runner_type='toast_mm.Runner'``.

    What a hook can do is one, and works under any Runner. This one names hooks that a config would
    name otherwise:

    - every run has those of ``STANDING_HOOKS``;
    - those of ``OWN_HOOKS`` take the places of mmengine's and mmpretrain's;
    - top-level keys stand for a hook: ``task_files=True``, ``first_pass_cache=True``,
      ``channels_last=True``, ``compile=True`` and ``resume_settings='config'``, or a dict of the
      arguments; see ``SWITCHES`` in ``toast_mm/keys.py``.

    What no hook can do:

    - Settings that cannot be meant are refused before anything is built.
    - Testing and resuming demand every key of the model. Starting from another
      model's weights (``load_from``) demands the backbone's, and warns of others.
    - Where the config has no seed, a resumed run takes that of the checkpoint before anything is
      built.
    - An error of writing names the file, and leaves no part of one. A config that lies in the work
      directory is not replaced by what was made of it.
    - An empty data set is named when it is built.
    - ``channels_last=True`` orders the memory before DDP notes the order.
    - Distributed runs work on machines without a GPU (gloo, BN for SyncBN; each
      process then keeps statistics of its own, and process 0 saves).
    """

    _check_all = False

    def setup_env(self, env_cfg: dict) -> None:
        """As mmengine, whose own initialisation needs a GPU under ``torchrun``."""
        if self.distributed and not is_distributed() and not torch.cuda.is_available():
            torch.distributed.init_process_group('gloo')
            atexit.register(_leave_process_group)
        super().setup_env(env_cfg)

    @master_only
    def dump_config(self) -> None:
        """As mmengine; a config in the ``work_dir`` that is read is not replaced by itself.

        What was made of it, by ``--cfg-options`` for one, is beside the log in any case.
        """
        source = self.cfg.filename or f'{self.timestamp}.py'
        target = osp.join(self.work_dir, osp.basename(source))
        if osp.isfile(target) and osp.isfile(source) and osp.samefile(source, target):
            self.logger.info(f'{target} stays as it is; the settings of this run are by the log')
            return
        with atomic_write(target) as partial:
            self.cfg.dump(partial)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """As mmengine, whose DDP wrapper names a GPU even if there is none."""
        if self.cfg.get('channels_last'):  # DDP notes the order of the memory, before hooks are
            model.to(memory_format=torch.channels_last)
        if self.distributed and not torch.cuda.is_available():
            model = revert_sync_batchnorm(model)
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
        """As mmengine; a resumed run has the seed of its checkpoint."""
        check_config(cfg)
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
        """As mmengine."""
        return super().train()

    @naming_files()
    def val(self) -> dict:
        """As mmengine."""
        return super().val()

    @naming_files()
    def test(self) -> dict:
        """As mmengine, from a checkpoint that holds the whole model; nothing is resumed."""
        find_start(self)
        self._resume = False
        self._check_all = True
        return super().test()

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = 'cpu',
        strict: bool | None = None,
        revise_keys: list = [(r'^module.', '')],  # noqa: B006  mmengine's signature
    ) -> dict:
        """Load weights; by default strictly when testing and resuming.

        Raises:
            CheckpointError: Names the file and what is missing in it.
        """
        if strict is None:
            strict = self._resume or self._check_all
        try:
            return super().load_checkpoint(filename, map_location, strict, revise_keys)
        except RuntimeError as error:
            source = '' if filename in str(error) else f'{filename}: '
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise CheckpointError(source + '; '.join(lines)) from error

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """As mmengine, and the hooks that the keys of the config stand for, and those of every run.

        Raises:
            ValueError: A key is nearly that of ours, or its hook is in ``custom_hooks`` as well.
        """
        super().register_hooks(*args, **kwargs)
        check_names(self.cfg)
        note_reader(self.message_hub)
        for key, hook in asked_hooks(self.cfg).items():
            if self._has_hook(HOOKS.get(hook['type'])):
                name = hook['type'].removeprefix('toast_mm.')
                raise ValueError(f'{key} and {name} in custom_hooks are one: leave out one of them')
            self.register_hook(hook)
        for kind in STANDING_HOOKS:
            if not self._has_hook(kind):
                self.register_hook(kind())

    def _has_hook(self, kind: Any) -> bool:
        return any(isinstance(hook, kind) for hook in self.hooks)

    def register_hook(self, hook: Hook | dict, *args: Any, **kwargs: Any) -> None:
        """As mmengine; hooks that would lose something are replaced by ours."""
        if isinstance(hook, dict) and 'type' in hook:
            with HOOKS.switch_scope_and_registry(hook.get('_scope_')) as registry:
                kind = registry.get(hook['type']) if isinstance(hook['type'], str) else hook['type']
            hook = {**hook, 'type': OWN_HOOKS.get(kind, hook['type'])}
        super().register_hook(hook, *args, **kwargs)

    def _maybe_compile(self, target: str) -> None:
        """Compile nothing: the key ``compile`` stands for :class:`CompileHook`."""

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """As mmengine, with a file that is whole or not there."""
        if kwargs.get('backend_args') is None and not (args and args[0]):
            kwargs['backend_args'] = whole_files(out_dir)
        super().save_checkpoint(out_dir, filename, *args, **kwargs)


def _leave_process_group() -> None:
    """Stop gloo's threads: an interpreter that ends under them aborts now and then."""
    gc.collect()  # the model's wrapper holds the group, and the runner is full of cycles
    if is_distributed():
        torch.distributed.destroy_process_group()


def build_runner(cfg: Config) -> mmengine.runner.Runner:
    """The runner that a config names, by default this project's."""
    return mmengine.registry.RUNNERS.build(cfg) if cfg.get('runner_type') else Runner.from_cfg(cfg)
