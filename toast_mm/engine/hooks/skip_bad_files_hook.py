"""Going on when files of the training data cannot be read."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.runner import Runner

from toast_mm.datasets.bad_files import SKIPPED, fetch_readable
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.registry import HOOKS

NAMED = 20  # files in the log of an epoch


@HOOKS.register_module()
class SkipBadFilesHook(SingleHook):
    """Skip training samples whose files cannot be read, and count them.

    Without this hook, such a file ends the training with an error that names it. With it, the next
    sample of the data set takes its place, so that a run stays a function of its seed. The log has
    the error of every file once, and after every epoch the number of skipped samples with the
    names of the files. A training by iterations has a single epoch.

    Only errors of transforms that load (``LoadImageFromFile``, ``LoadAnnotations`` and others named
    ``Load...``) are skipped. Validation and test data are never skipped, since this would change
    what a metric measures. ``tools/misc/check_dataset.py`` finds bad files before a training.

    Args:
        limit: Number of files after which the run ends. Defaults to 100.

    Raises:
        ValueError: A process has met more bad files than ``limit``.

    Example:
        >>> custom_hooks = [dict(type='toast_mm.SkipBadFilesHook', limit=20)]
    """

    def __init__(self, limit: int = 100) -> None:
        if limit < 1:
            raise ValueError(f'SkipBadFilesHook: limit={limit} must be at least 1')
        self.limit = limit
        self._files: set[str] = set()  # of the whole run
        self._epoch: Counter[str] = Counter()

    def before_train(self, runner: Runner) -> None:
        """Make the data loader, whose workers start later, fetch readable samples."""
        dataset = runner.train_dataloader.dataset
        dataset.__getitems__ = partial(fetch_readable, dataset)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note the files that were skipped for the samples of a batch."""
        samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
        for sample in samples or ():
            for file, error in sample.get(SKIPPED, ()):
                self._epoch[file] += 1
                if file not in self._files:
                    self._files.add(file)
                    runner.logger.warning(f'{file} is skipped: {error}')
        if len(self._files) > self.limit:
            raise ValueError(
                f'{len(self._files)} files cannot be read, more than SkipBadFilesHook(limit='
                f'{self.limit}): check the data by tools/misc/check_dataset.py'
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the files that all processes have skipped."""
        total: Counter[str] = sum(all_gather_object(self._epoch), Counter())
        self._epoch.clear()
        if total:
            names = ', '.join(sorted(total)[:NAMED])
            more = f' and {len(total) - NAMED} more' if len(total) > NAMED else ''
            runner.logger.warning(
                f'In this epoch, {total.total()} samples were skipped, since {len(total)} files '
                f'cannot be read: {names}{more}'
            )
