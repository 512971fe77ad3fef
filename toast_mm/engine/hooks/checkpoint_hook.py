"""Checkpoints of which the newest whole one is never removed."""

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


@HOOKS.register_module()
class CheckpointHook(mmengine.hooks.CheckpointHook):
    """mmengine's ``CheckpointHook``; whatever interrupts it, the training can be resumed.

    mmengine removes a former checkpoint and then writes the new one. Here the
    new one is written whole, then ``last_checkpoint`` names it, and then the
    former ones are removed, best checkpoints included. ``toast_mm.Runner``
    takes this hook where a config says ``CheckpointHook``.

    Files of another training are not replaced: neither a checkpoint that
    this one starts from, its base included, nor the best one of a training in another folder that
    is resumed here.
    """

    backend_args: dict | None
    keep_ckpt_ids: deque[int]

    def before_train(self, runner: Runner) -> None:
        """As mmengine, with files that are whole or not there."""
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
        for path in runner.message_hub.runtime_info.get('former_best_ckpts', []):
            if path not in self._best.values():  # an interruption left it
                self._remove(path)

    def _take_over(self, runner: Runner, folder: str) -> None:
        """Note which files are those of the training that is resumed.

        It may have been moved to another folder, or go on in another one, from a
        copy of one checkpoint or from where it was; there its files stay.
        """
        info = runner.message_hub.runtime_info
        if runner._load_from is not None and not _is_in(runner._load_from, folder):
            for key in [
                k for k in info if re.match('keep_ckpt_ids|best_ckpt|former_best_ckpts', k)
            ]:
                runner.message_hub.pop_info(key)
            return
        if 'last_ckpt' in info:  # mmengine would save no better one before the next is due
            self.last_ckpt = osp.join(folder, osp.basename(info['last_ckpt']))
        for key in info:
            if key.startswith('best_ckpt'):
                info[key] = osp.join(folder, osp.basename(info[key]))
        if 'former_best_ckpts' in info:
            names = map(osp.basename, info['former_best_ckpts'])
            info['former_best_ckpts'] = [osp.join(folder, name) for name in names]

    def _check_elsewhere(self, key: str, start: str, folder: str) -> None:
        """Refuse to replace, sooner or later, a checkpoint that the training starts from."""
        numbered = re.escape(self.filename_tmpl).replace(r'\{\}', r'\d+')
        if _is_in(start, folder) and re.fullmatch(f'(best_.*)?{numbered}', osp.basename(start)):
            raise ValueError(
                f'{key}={start} is in the folder of this training, which would replace it: choose '
                f'another folder (--work-dir){", or go on with --resume" * (key == "load_from")}'
            )

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save, name in ``last_checkpoint``, and then remove what is not to be kept."""
        outdated: list[int] = []
        if self.max_keep_ckpts > 0:
            steps = [*(s for s in self.keep_ckpt_ids if s != step), step]
            outdated = steps[: -self.max_keep_ckpts]
            self.keep_ckpt_ids = deque(steps[-self.max_keep_ckpts :], self.max_keep_ckpts)
            # With those that are still there: mmengine removes them if this is resumed.
            runner.message_hub.update_info('keep_ckpt_ids', steps)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            pointer = osp.join(runner.work_dir, 'last_checkpoint')
            get_file_backend(pointer, backend_args=whole_files(pointer)).put_text(
                self.last_ckpt, pointer
            )
            for former in outdated:
                self._remove(
                    self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(former))
                )
        if outdated:
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

    @property
    def _best(self) -> dict[str, str | None]:
        """Best checkpoints by metric; mmengine keeps a single one elsewhere."""
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
        """As mmengine, but the former best ones go when the last checkpoint knows of the new ones.

        mmengine removes them first; here it is told that there is none.
        """
        if not self.save_best or not hasattr(self, 'file_backend'):  # a validation alone
            return
        for key in self.key_indicators:
            if key != 'auto' and key not in metrics:
                raise ValueError(
                    f'save_best={key!r} is no metric of the validation; there are: '
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
                runner.logger.info(f'The former best checkpoint {path} is removed')

    def _remove(self, path: str) -> None:
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
        elif self.file_backend.isdir(path):  # what deepspeed saves
            self.file_backend.rmtree(path)

    @master_only
    def _publish_model(self, runner: Runner, ckpt_path: str | None) -> None:
        """Write the ``published_keys`` of a checkpoint, under a name that ends in its SHA-256.

        mmengine hashes what is not in the file, so that no download could be checked by it.
        """
        if ckpt_path is None:  # no validation was better than none
            return
        checkpoint = CheckpointLoader.load_checkpoint(ckpt_path, map_location='cpu')
        content = io.BytesIO()
        torch.save({k: checkpoint[k] for k in self.published_keys if k in checkpoint}, content)
        digest = hashlib.sha256(content.getvalue()).hexdigest()[:8]
        path = f'{osp.splitext(ckpt_path)[0]}-{digest}.pth'
        self.file_backend.put(content.getvalue(), path)
        runner.logger.info(f'The published form of {ckpt_path} is {path}')


def _is_in(path: str, folder: str) -> bool:
    """Whether a file lies directly in a folder."""
    if '://' in path or '://' in folder:
        return osp.dirname(path) == folder.rstrip('/')
    return osp.realpath(osp.dirname(path) or '.') == osp.realpath(folder)
