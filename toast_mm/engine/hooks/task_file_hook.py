"""Task files: checkpoints without the frozen base."""

from __future__ import annotations

from typing import Any

from mmengine.runner import Runner

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.adapter import RECORD, frozen_base, leave_out_base, make_record
from toast_mm.checkpoint.complete import complete
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import backbone_of
from toast_mm.models.backbones.steering import SteeredBackbone
from toast_mm.registry import HOOKS


@HOOKS.register_module()
class TaskFileHook(SingleHook):
    """Leave the frozen base out of checkpoints, which then hold tuned weights, head and buffers.

    Such a task file has the fingerprint of the base and the place where ``init_cfg`` finds it. Any
    tool loads it like other checkpoints; with another base, loading is an error. The hook works
    under any Runner of mmengine, from ``custom_hooks``. Configs of :class:`Runner` may set
    ``task_files=True``.

    Raises:
        ValueError: The backbone is not one of toast_mm, nothing in it is frozen, ``init_cfg`` names
            no base or another one than that of the training (``load_from``), or DeepSpeed saves.
    """

    priority = 'LOWEST'  # after hooks that put weights into the checkpoint

    def before_train(self, runner: Runner) -> None:
        """Record the base, which does not change from now on."""
        if type(getattr(runner, 'strategy', None)).__name__ == 'DeepSpeedStrategy':
            raise ValueError(
                'TaskFileHook: DeepSpeedStrategy calls no hook when it saves, so it would save the '
                "base too; use toast_mm.Runner with model_wrapper_cfg=dict(type='toast_mm."
                "FullyShardedDataParallel')"
            )
        backbone = backbone_of(runner.model, 'TaskFileHook')
        if not isinstance(backbone, SteeredBackbone):
            raise ValueError(
                f'TaskFileHook: {type(backbone).__name__} does not support task files; use '
                'toast_mm.TOASTViT, TOASTConvNeXt or TOASTTimm, with feedback_from=None for no '
                'feedback'
            )
        self._names = frozen_base(backbone)
        if not self._names:
            raise ValueError(
                'TaskFileHook: nothing in the backbone is frozen, so a task file would hold the '
                'whole model; leave out task_files'
            )
        if not backbone.pretrained:
            raise ValueError(
                'TaskFileHook: a task file leaves out the base and must name it: '
                "set model.backbone.init_cfg=dict(type='Pretrained', checkpoint=...)"
            )
        self._record = make_record(backbone, self._names)
        self._check_named_base(backbone)

    def _check_named_base(self, backbone: SteeredBackbone) -> None:
        """Check that task files can be loaded: ``load_from`` may have changed the base."""
        weights = dict(backbone.state_dict())
        for name in self._names:
            del weights[name]
        try:
            complete(backbone, {**weights, RECORD: self._record}, reread=True)
        except CheckpointError as error:
            raise ValueError(
                f'TaskFileHook: its task files could not be loaded: {error}'
            ) from error

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Replace the base by its record, also in the averaged weights of an EMA."""
        leave_out_base(checkpoint['state_dict'], self._names, self._record, 'backbone.')
        average = checkpoint.get('ema_state_dict')
        if average is not None:
            leave_out_base(average, self._names, self._record, 'module.backbone.')
