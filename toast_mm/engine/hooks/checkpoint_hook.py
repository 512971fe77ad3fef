"""Saving checkpoints such that a complete one always exists."""

from __future__ import annotations

import hashlib
import io
import os.path as osp
import re
from collections import deque

import mmengine.hooks
import torch
from mmengine.dist import is_main_process, master_only
from mmengine.fileio import get_file_backend
from mmengine.runner import CheckpointLoader, Runner

from toast_mm.engine.backends import whole_files
from toast_mm.engine.config import named_files
from toast_mm.registry import HOOKS

INTERRUPTED = 'interrupted.pth'


@HOOKS.register_module()
class CheckpointHook(mmengine.hooks.CheckpointHook):
    """mmengine's ``CheckpointHook`` that allows resuming after any interruption.

    mmengine removes an old checkpoint before it writes the new one. This hook first writes the new
    one completely, then names it in ``last_checkpoint``, and then removes old ones. The same holds
    for best checkpoints. ``toast_mm.Runner`` uses this hook if a config names ``CheckpointHook``.

    Files of another training are not replaced: neither a checkpoint that this training starts from,
    including its base, nor the best checkpoint of a training that is resumed here from another
    folder.
    """

    backend_args: dict | None
    keep_ckpt_ids: deque[int]

    def before_train(self, runner: Runner) -> None:
        """Prepare as mmengine does, with atomic writes."""
        folder = str(self.out_dir or runner.work_dir)
        if self.backend_args is None and self.file_client_args is None:
            self.backend_args = whole_files(folder)
        if folder != runner.work_dir:  # as mmengine does
            folder = osp.join(folder, osp.basename(runner.work_dir.rstrip(osp.sep)))
        if runner._resume:
            self._take_over(runner, folder)
        elif runner._load_from is not None:
            self._check_elsewhere('load_from', runner._load_from, folder)
        for key, file in named_files(runner.cfg.get('model'), 'model'):
            self._check_elsewhere(key, file, folder)
        super().before_train(runner)
        if not runner._resume:
            self._warn_of_another_training(runner)
        for path in runner.message_hub.runtime_info.get('former_best_ckpts', []):
            if path not in self._best.values():  # left by an interruption
                self._remove(path)

    def _take_over(self, runner: Runner, folder: str) -> None:
        """Find the files of the training that is resumed.

        Its folder may have been moved: then the files are in the new folder. It
        may also continue in another folder: then its old files stay there.
        """
        info = runner.message_hub.runtime_info
        if runner._load_from is not None and not _is_in(runner._load_from, folder):
            for key in [
                k for k in info if re.match('keep_ckpt_ids|best_ckpt|former_best_ckpts', k)
            ]:
                runner.message_hub.pop_info(key)
            return
        if (
            'last_ckpt' in info
        ):  # mmengine needs it to save a best checkpoint before the next regular one
            self.last_ckpt = osp.join(folder, osp.basename(info['last_ckpt']))
        for key in info:
            if key.startswith('best_ckpt'):
                info[key] = osp.join(folder, osp.basename(info[key]))
        if 'former_best_ckpts' in info:
            names = map(osp.basename, info['former_best_ckpts'])
            info['former_best_ckpts'] = [osp.join(folder, name) for name in names]

    def _warn_of_another_training(self, runner: Runner) -> None:
        """Tell which checkpoints are in the folder before a training that starts anew."""
        if not self.file_backend.isdir(self.out_dir):
            return
        files = self.file_backend.list_dir_or_file(self.out_dir, list_dir=False)
        if left := sorted(filter(self._is_ours, files)):
            runner.logger.warning(
                f'{self.out_dir} holds {len(left)} checkpoints of another training, such as '
                f'{left[0]}. They stay unless this training writes files of the same names. Use '
                'another folder (--work-dir) to keep both apart'
            )

    def _is_ours(self, name: str) -> bool:
        """Whether this hook would give a file this name."""
        numbered = re.escape(self.filename_tmpl).replace(r'\{\}', r'\d+')
        return name == INTERRUPTED or bool(re.fullmatch(f'(best_.*)?{numbered}', name))

    def _check_elsewhere(self, key: str, start: str, folder: str) -> None:
        """Check that the training will not replace a checkpoint that it starts from."""
        if _is_in(start, folder) and self._is_ours(osp.basename(start)):
            raise ValueError(
                f'{key}={start} is in the folder of this training, which would replace it: choose '
                f'another folder (--work-dir){", or continue with --resume" * (key == "load_from")}'
            )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save a checkpoint, name it in ``last_checkpoint``, and then remove old ones."""
        outdated: list[int] = []
        if self.max_keep_ckpts > 0:
            steps = [*(s for s in self.keep_ckpt_ids if s != step), step]
            outdated = steps[: -self.max_keep_ckpts]
            self.keep_ckpt_ids = deque(steps[-self.max_keep_ckpts :], self.max_keep_ckpts)
            # Includes old ones that still exist: mmengine removes them after resuming.
            runner.message_hub.update_info('keep_ckpt_ids', steps)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._save(runner, name, self.by_epoch, meta)
        if is_main_process():
            former = [self.filename_tmpl.format(number) for number in outdated]
            for name in [*former, INTERRUPTED]:
                self._remove(self.file_backend.join_path(self.out_dir, name))
        if outdated:
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

    def save_interrupted(self, runner: Runner) -> str:
        """Save the state after the current iteration, until the next regular checkpoint.

        Returns:
            Path of the checkpoint.
        """
        self._save(runner, INTERRUPTED, False, {})
        return self.file_backend.join_path(self.out_dir, INTERRUPTED)

    def _save(self, runner: Runner, name: str, by_epoch: bool, meta: dict) -> None:
        """Save a checkpoint and name it in ``last_checkpoint``."""
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            pointer = osp.join(runner.work_dir, 'last_checkpoint')
            get_file_backend(pointer, backend_args=whole_files(pointer)).put_text(
                self.file_backend.join_path(self.out_dir, name), pointer
            )

    @property
    def _best(self) -> dict[str, str | None]:
        """Best checkpoints by metric; mmengine stores a single one in another attribute."""
        if self.save_best is None:
            return {}
        if len(self.key_indicators) == 1:
            return {'': self.best_ckpt_path}
        return self.best_ckpt_path_dict

    @_best.setter
    def _best(self, paths: dict[str, str | None]) -> None:
        if '' in paths:
            self.best_ckpt_path = paths['']
        elif paths:
            self.best_ckpt_path_dict = paths

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save as mmengine does, but remove old best checkpoints only after the last save.

        mmengine removes them first, so this hides them from it.
        """
        if not self.save_best or not hasattr(self, 'file_backend'):  # validation without training
            return
        for key in self.key_indicators:
            if key != 'auto' and key not in metrics:
                raise ValueError(
                    f'save_best={key!r} is not a metric of the validation; there are: '
                    f'{", ".join(metrics)}'
                )
        former = dict(self._best)
        runner.message_hub.update_info(
            'former_best_ckpts', [path for path in former.values() if path]
        )
        self._best = dict.fromkeys(former)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self._best = {key: path or former[key] for key, path in self._best.items()}
        if is_main_process():
            for path in {*former.values()} - {*self._best.values(), None}:
                self._remove(str(path))
                runner.logger.info(f'The previous best checkpoint {path} is removed')

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # deepspeed saves folders
            self.file_backend.rmtree(path)

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str | None) -> None:
        """Write the ``published_keys`` of a checkpoint, under a name that ends in its SHA-256.

        mmengine hashes other content, so its hash cannot check a download.
        """
        if ckpt_path is None:  # no validation set a best checkpoint
            return
        checkpoint = CheckpointLoader.load_checkpoint(ckpt_path, map_location='cpu')
        content = io.BytesIO()
        torch.save({k: checkpoint[k] for k in self.published_keys if k in checkpoint}, content)
        digest = hashlib.sha256(content.getvalue()).hexdigest()[:8]
        path = f'{osp.splitext(ckpt_path)[0]}-{digest}.pth'
        self.file_backend.put(content.getvalue(), path)
        runner.logger.info(f'The published form of {ckpt_path} is {path}')


def _is_in(path: str, folder: str) -> bool:
    """Whether a file is directly in a folder."""
    if '://' in path or '://' in folder:
        return osp.dirname(path) == folder.rstrip('/')
    return osp.realpath(osp.dirname(path) or '.') == osp.realpath(folder)
