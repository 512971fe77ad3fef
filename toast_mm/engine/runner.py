"""mmengine's Runner for tuning: checkpoints that are whole, and CPUs that count as devices."""

from __future__ import annotations

import atexit
import copy
import gc
import json
import logging
import os.path as osp
import re
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any

import mmengine.hooks
import mmengine.registry
import mmengine.runner
import mmengine.visualization
import mmpretrain.engine
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed, master_only
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import BaseLoop, CheckpointLoader
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import DataLoader

from toast_mm.checkpoint import CheckpointError
from toast_mm.datasets.passed_over import passed_over
from toast_mm.engine.backends import LocalVisBackend, LogFile, whole_files
from toast_mm.engine.config_check import check_config
from toast_mm.engine.hooks import (
    CheckpointHook,
    EarlyStoppingHook,
    FiniteCheckHook,
    ResumeHook,
    VisualizationHook,
)
from toast_mm.engine.model import unwrap
from toast_mm.engine.optim import computes_bfloat16
from toast_mm.files import atomic_write, naming_files, write_atomically
from toast_mm.keys import check_names, note_reader
from toast_mm.registry import RUNNERS

# Beside the logs of a training: the number of its tuned parameters, without those of the head.
TUNED = 'tuned_parameters.json'
OWN_HOOKS = {
    mmengine.hooks.CheckpointHook: CheckpointHook,
    mmengine.hooks.EarlyStoppingHook: EarlyStoppingHook,
    mmpretrain.engine.VisualizationHook: VisualizationHook,
}


@RUNNERS.register_module()
class Runner(mmengine.runner.Runner):
    """mmengine's ``Runner``; configs choose it by ``runner_type='toast_mm.Runner'``.

    Differs in this:

    - A checkpoint appears under its name when it is complete, and an automatic
      resumption takes the one that ``last_checkpoint`` names or, if that is
      gone, the one that counts furthest.
    - Testing and resuming demand every key of the model. Starting from another
      model's weights (``load_from``) demands the backbone's, and warns of others.
    - A resumed run takes its seed from the checkpoint where the config has none.
    - ``compile=True`` compiles the backbone alone; ``channels_last=True`` orders the memory of
      convolutions so, which is faster for a ConvNeXt, most of all in bfloat16.
    - ``first_pass_cache=True`` computes the first pass of every image once; see
      :class:`FirstPassCacheHook`, whose arguments it takes as a dict.
    - ``task_files=True`` leaves the frozen base out of checkpoints; see :class:`TaskFileHook`.
    - ``fp16=True`` of validation and test is float32 on a CPU without bfloat16 units.
    - Whatever interrupts a training, it can be resumed, and goes on as if it had not been
      interrupted: :class:`CheckpointHook` and :class:`EarlyStoppingHook` take the places of
      mmengine's, and every training has a :class:`ResumeHook`. ``resume_settings='config'`` takes
      learning rate, weight decay and schedule from the config and not from the checkpoint.
    - A training whose loss or weights are no longer finite stops; see :class:`FiniteCheckHook`.
    - An error of writing names the file, and leaves no part of one. A config that lies in the work
      directory is not replaced by what was made of it.
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

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """As mmengine, with a log that ends the run when it cannot be written."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.FileHandler:
                handler.__class__ = LogFile
        return logger

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """As mmengine, with pictures of which none is missing."""
        built = super().build_visualizer(visualizer)
        for backend in built._vis_backends.values():
            if type(backend) is mmengine.visualization.LocalVisBackend:
                backend.__class__ = LocalVisBackend
        return built

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
        if self.cfg.get('channels_last'):
            model.to(memory_format=torch.channels_last)  # before DDP takes note of strides
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
        """As mmengine; a resumed run starts from the newest whole checkpoint and its seed."""
        check_config(cfg)
        cfg = copy.deepcopy(cfg)
        automatic = cfg.get('resume') and not cfg.get('load_from')
        if automatic:
            cfg['load_from'] = latest_checkpoint(cfg['work_dir'])
            cfg['resume'] = cfg['load_from'] is not None
        randomness = cfg.get('randomness') or {}
        if cfg.get('resume') and randomness.get('seed') is None:
            # The samplers are built, and take the seed, before mmengine resumes.
            checkpoint = CheckpointLoader.load_checkpoint(cfg['load_from'], map_location='cpu')
            cfg['randomness'] = {**randomness, 'seed': checkpoint.get('meta', {}).get('seed')}
        runner = super().from_cfg(cfg)
        if automatic and not cfg['resume']:
            runner.logger.warning(f'no checkpoint to resume in {cfg["work_dir"]}: starting anew')
        return runner

    @staticmethod
    def build_dataloader(dataloader: Any, *args: Any, **kwargs: Any) -> DataLoader:
        """Build a loader as mmengine does, and refuse an empty data set in words that fit.

        An infinite sampler of an empty data set would search for a sample for ever.

        Raises:
            ValueError: The data set is empty; says where it looks for samples.
        """
        try:
            loader = mmengine.runner.Runner.build_dataloader(dataloader, *args, **kwargs)
        except (ValueError, RuntimeError) as error:
            if not any(
                words in str(error) for words in ('need at least one array', 'Found 0 files')
            ):
                raise
        else:
            if not isinstance(loader.dataset, Sized) or len(loader.dataset):
                return loader
        dataset = dataloader['dataset'] if isinstance(dataloader, dict) else dataloader.dataset
        raise ValueError(f'the data set is empty: {_sources(dataset)} finds no sample')

    @naming_files()
    def train(self) -> nn.Module:
        """As mmengine; notes beside the logs how many parameters of the backbone are tuned."""
        backbone = getattr(unwrap(self.model), 'backbone', None)
        if backbone is not None and self.rank == 0:
            tuned = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
            path = Path(self.log_dir, 'vis_data', TUNED)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(json.dumps({'backbone': tuned}).encode(), str(path))
        return super().train()

    @naming_files()
    def val(self) -> dict:
        """As mmengine."""
        return super().val()

    @naming_files()
    def test(self) -> dict:
        """As mmengine, from a checkpoint that holds the whole model."""
        self._resume = False
        self._check_all = True
        return super().test()

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """As mmengine, whose ``fp16`` is bfloat16 on a CPU, even on one that cannot compute it."""
        return self._in_affordable_precision(super().build_val_loop(loop), 'validation')

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """As mmengine, whose ``fp16`` is bfloat16 on a CPU, even on one that cannot compute it."""
        return self._in_affordable_precision(super().build_test_loop(loop), 'the test')

    @staticmethod
    def _in_affordable_precision(loop: BaseLoop, what: str) -> BaseLoop:
        if getattr(loop, 'fp16', False) and get_device() == 'cpu':
            loop.fp16 = computes_bfloat16('cpu', what)
        return loop

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
            checkpoint = super().load_checkpoint(filename, map_location, strict, revise_keys)
        except RuntimeError as error:
            source = '' if filename in str(error) else f'{filename}: '
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise CheckpointError(source + '; '.join(lines)) from error
        # A best checkpoint has no optimizer: mmengine would go on with a new one, and new rates.
        if self._resume and not {'meta', 'message_hub', 'optimizer'} <= checkpoint.keys():
            raise CheckpointError(
                f'{filename} holds weights without the state of a training and cannot be resumed; '
                f'to start from these weights say --cfg-options load_from={filename}, '
                'and another --work-dir'
            )
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """As mmengine, with an error that says why an optimizer state does not fit.

        Raises:
            CheckpointError: Other parameters were tuned in the training that is resumed.
        """
        try:
            super().resume(filename, *args, **kwargs)
        except ValueError as error:
            if 'parameter group' not in str(error):
                raise
            raise CheckpointError(
                f'{filename} is of a training that tuned other parameters; resume it with its own '
                f'config, or start from its weights: --cfg-options load_from={filename}, '
                'and another --work-dir'
            ) from error

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """As mmengine, and the hooks of ``first_pass_cache`` and ``task_files``.

        Raises:
            ValueError: A key is nearly that of ours, or its hook is in ``custom_hooks`` as well.
        """
        super().register_hooks(*args, **kwargs)
        check_names(self.cfg)
        note_reader(self.message_hub)
        hooks = dict(task_files='TaskFileHook', first_pass_cache='FirstPassCacheHook')
        for key, name in hooks.items():
            options = self.cfg.get(key)
            if options is None or options is False:
                continue
            if any(type(hook).__name__ == name for hook in self.hooks):
                raise ValueError(f'{key} and {name} in custom_hooks are one: leave out one of them')
            arguments = options if isinstance(options, dict) else {}
            self.register_hook(dict(type=f'toast_mm.{name}', **arguments))
        settings = self.cfg.get('resume_settings', 'checkpoint')
        for own in (FiniteCheckHook(), ResumeHook(settings)):
            if not any(isinstance(hook, type(own)) for hook in self.hooks):
                self.register_hook(own)

    def register_hook(self, hook: Hook | dict, *args: Any, **kwargs: Any) -> None:
        """As mmengine; hooks that would lose something are replaced by ours."""
        if isinstance(hook, dict) and 'type' in hook:
            with HOOKS.switch_scope_and_registry(hook.get('_scope_')) as registry:
                kind = registry.get(hook['type']) if isinstance(hook['type'], str) else hook['type']
            hook = {**hook, 'type': OWN_HOOKS.get(kind, hook['type'])}
        super().register_hook(hook, *args, **kwargs)

    def _maybe_compile(self, target: str) -> None:
        """Compile the backbone alone: ``compile=True``, or a dict of ``torch.compile``'s arguments.

        mmengine would compile whole steps, in which logging, mixed images and mmseg's losses fail.
        Names of weights stay as they are.
        """
        options = self.cfg.get('compile')
        if options:
            unwrap(self.model).backbone.compile(**({} if options is True else options))
            self.logger.info('The backbone is compiled; the first iterations take longer')

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


def _sources(dataset: Any) -> str:
    """Where a configured data set, or those that it consists of, look for samples."""
    if not isinstance(dataset, dict):
        return type(dataset).__name__
    parts = dataset.get('datasets') or [dataset[key] for key in dataset if key == 'dataset']
    if parts:
        return ', '.join(map(_sources, parts))
    try:
        there = passed_over(DATASETS.build({**dataset, 'lazy_init': True}))
    except (AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError):
        # It may fail for the reason for which it is empty.
        there = None
    places = ('data_root', 'data_prefix', 'ann_file', 'split')
    where = ', '.join(f'{key}={dataset[key]!r}' for key in places if key in dataset)
    return f'{dataset["type"]}({where}){f", where there are {there}," if there else ""}'


def build_runner(cfg: Config) -> mmengine.runner.Runner:
    """The runner that a config names, by default this project's."""
    return mmengine.registry.RUNNERS.build(cfg) if cfg.get('runner_type') else Runner.from_cfg(cfg)


def latest_checkpoint(work_dir: str) -> str | None:
    """Newest checkpoint of a training in a folder, or None.

    The one that ``last_checkpoint`` names, or, if an interruption left that
    file behind the facts, the numbered one that counts furthest.
    """
    folder = Path(work_dir)
    pointer = folder / 'last_checkpoint'
    if pointer.is_file():
        named = pointer.read_text().strip()
        for candidate in (str(folder / osp.basename(named)), named):
            if named and osp.isfile(candidate):
                return candidate
    numbered = {}
    for path in folder.glob('*.pth'):
        if match := re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', path.name):
            numbered[int(match[1])] = str(path)
    return numbered[max(numbered)] if numbered else None
