"""Pictures of the attention during a training."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.runner import Runner

from toast_mm.engine.bands import band_loader
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.views import view_of
from toast_mm.registry import HOOKS
from toast_mm.seeding import kept_random_state
from toast_mm.visualization import Row, as_image, draw_picture


@HOOKS.register_module()
class AttentionHook(SingleHook):
    """Draw what the backbone attends to in some validation images, after validations.

    The picture ``attention`` goes to all backends of the visualizer, such as ``LocalVisBackend``
    and ``TensorboardVisBackend``. It has a row per image, with the selection mask and the attention
    in both passes; see :class:`AttentionMaps`. Process 0 draws it. The images are loaded once,
    before the training. The training stays the same bit for bit: no random number is drawn, and
    modes are restored.

    Args:
        indices: Numbers of the images in the validation data. Defaults to ``(0, 1, 2, 3)``.
        interval: Validations between pictures. Defaults to 1.
        blocks: Numbers of blocks, or stages; negative ones count from the end. Defaults to None,
            the last block that runs in both passes.
        heads: Whether to draw every head; otherwise their mean. Defaults to False.
        difference: Whether to draw the difference of both passes, too. Defaults to False.

    Raises:
        ValueError: There is no such image or block, or the backbone has no such maps. Nothing has
            trained then.

    Example:
        >>> custom_hooks = [dict(type='toast_mm.AttentionHook', indices=[3, 14], interval=5)]
    """

    priority = 'ABOVE_NORMAL'  # before EMAHook takes back the weights that were validated

    def __init__(
        self,
        indices: Sequence[int] = (0, 1, 2, 3),
        interval: int = 1,
        blocks: Sequence[int] | int | None = None,
        heads: bool = False,
        difference: bool = False,
    ) -> None:
        if interval < 1:
            raise ValueError(f'AttentionHook: interval={interval} must be at least 1')
        if not indices:
            raise ValueError(f'AttentionHook: indices={indices} must name an image')
        self.indices = indices
        self.interval = interval
        self.blocks = blocks
        self.heads = heads
        self.difference = difference
        self._validations = 0
        self._samples: list[dict] = []

    def before_train(self, runner: Runner) -> None:
        """Load the images, before hooks that let the data set load other things."""
        if runner.val_loop is None:
            raise ValueError('AttentionHook: the config has no validation, which it draws after')
        self._load(runner)

    def before_val(self, runner: Runner) -> None:
        """Load the images for a validation without training."""
        self._load(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw, if it is time."""
        self._validations += 1
        if runner.rank != 0 or self._validations % self.interval:
            return
        loader = band_loader(runner.val_dataloader.dataset)
        rows = []
        with kept_random_state():
            for sample in self._samples:
                rows.append(Row([view_of(runner.model, sample, loader, self.blocks, self.heads)]))
            picture = as_image(draw_picture(rows, difference=self.difference))
        runner.visualizer.add_image('attention', picture, step=runner.iter)

    def _load(self, runner: Runner) -> None:
        if self._samples or runner.rank != 0:
            return
        dataset = runner.val_dataloader.dataset
        if outside := [index for index in self.indices if not 0 <= index < len(dataset)]:
            raise ValueError(
                f'AttentionHook: indices={list(self.indices)}: the validation data have '
                f'{len(dataset)} images, 0..{len(dataset) - 1}, and no {outside[0]}'
            )
        with kept_random_state():
            self._samples = [dataset[index] for index in self.indices]
            view_of(
                runner.model, self._samples[0], blocks=self.blocks
            )  # an error, before the training
