"""Saving the result of pre-tuning."""

from __future__ import annotations

import os.path as osp

from mmengine.dist import master_only
from mmengine.runner import Runner

from toast_mm.checkpoint.pretuned import save_pretuned
from toast_mm.engine.config import named_files
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import steered_backbone
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class PretunedHook(SingleHook):
    """Write the top-down module at the end of a training, for the argument ``pretuned``.

    Args:
        filename: File in the run's ``work_dir``. Defaults to
            ``'topdown.safetensors'``.
    """

    def __init__(self, filename: str = 'topdown.safetensors') -> None:
        if not filename.endswith('.safetensors'):
            raise ValueError(f'filename={filename!r} must end in .safetensors')
        self.filename = filename

    def before_train(self, runner: Runner) -> None:
        """Check before the training that there will be a module to write."""
        backbone = steered_backbone(runner.model)
        if backbone is None:
            raise ValueError('PretunedHook: the backbone has no top-down module to write')
        stem = backbone.stem_weight
        if stem is not None and backbone.get_parameter(stem).requires_grad:
            raise ValueError(
                'PretunedHook: the module belongs to a base that does not change, but '
                f'{stem} trains: set model.backbone.tune_stem=False'
            )
        path = osp.join(runner.work_dir, self.filename)
        starts = {'load_from': runner._load_from, 'model': runner.cfg.get('model')}
        for part, value in starts.items():
            for key, file in named_files(value, part):
                if osp.exists(path) and osp.samefile(path, file):
                    raise ValueError(
                        f'PretunedHook: filename={self.filename!r} would replace {key}={file}, '
                        'which the training starts from: choose another name'
                    )

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Write the file."""
        path = osp.join(runner.work_dir, self.filename)
        save_pretuned(steered_backbone(runner.model), path)
        runner.logger.info(f'The top-down module is in {path}: pretuned={path!r}')
