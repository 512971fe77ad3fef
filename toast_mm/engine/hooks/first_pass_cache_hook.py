"""Training with first passes that are computed once."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner
from mmengine.utils import ProgressBar
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from toast_mm.engine.first_passes import (
    CheckedPipeline,
    DamagedCacheError,
    FirstPassCache,
    PartsOfFirstPass,
    ServedPipeline,
    TrackedPipeline,
    cache_key,
    size_of_sample,
    whole_images,
    write,
)
from toast_mm.engine.hooks.single_hook import SingleHook
from toast_mm.engine.model import backbone_of, unwrap
from toast_mm.files import WriteError
from toast_mm.models.backbones.first_pass import FirstPass
from toast_mm.models.backbones.steering import SteeredBackbone
from toast_mm.registry import HOOKS, type_name


@HOOKS.register_module()
class FirstPassCacheHook(SingleHook):
    """Compute the first pass of every image once, and reuse it from then on.

    Nothing in the first pass is trained. Without random augmentation it is the same in every epoch,
    for every learning rate and every seed. It is stored in a folder where other runs find it by a
    key, which is a digest of weights, arguments, images and transforms. For a backbone without
    feedback the outputs are stored, and the backbone does not run at all.

    The hook works under any Runner of mmengine, from ``custom_hooks``. Configs of :class:`Runner`
    may set ``first_pass_cache=True``, or a dict of the arguments.

    Every run reads a cache once before it uses it, and computes damaged records again. At 1 GiB/s
    this takes 0.3 ms for an image of ViT-B/16.

    Every sample refers to its first pass, and the model passes those of a batch to its backbone. A
    model that runs its backbone on other images than those of the batch is an error. Validation in
    sliding windows or with test-time augmentation is not cached.

    **With random augmentation** (``augmented=True``), the first passes of the whole images of the
    training data are stored. They are cropped, flipped and resized as the images are. This is an
    approximation: the first pass does not see changes of colour, and what is outside of a crop has
    had an influence on it. It is for backbones with a coarse first pass. Validation is exact.

    Args:
        folder: Folder of the caches. Defaults to ``'work_dirs/first_pass'``.
        dtype: ``'float16'`` or ``'float32'``. Defaults to ``'float16'``.
        val: Whether to cache the validation data as well. Defaults to True.
        augmented: Whether the training data have random augmentation. Defaults to False.
        whole_size: Height and width to which whole images are resized for their first pass, if
            ``augmented``. Defaults to None, the size of the augmented images.

    Raises:
        ValueError: Transforms or mixed images are random, or parameters of the first pass are
            trained; if ``augmented``, the first pass is not coarse, or a transform is not known to
            move pixels or not to.
        WriteError: There is not enough space for the cache.
    """

    priority = 'LOW'  # after hooks that need images in before_train

    def __init__(
        self,
        folder: str = 'work_dirs/first_pass',
        dtype: str = 'float16',
        val: bool = True,
        augmented: bool = False,
        whole_size: Sequence[int] | None = None,
    ) -> None:
        if dtype not in ('float16', 'float32'):
            raise ValueError(f"first_pass_cache.dtype={dtype!r} must be 'float16' or 'float32'")
        if whole_size is not None:
            if not augmented:
                raise ValueError('first_pass_cache.whole_size is read with augmented=True only')
            if len(whole_size) != 2 or min(whole_size) < 1:
                raise ValueError(
                    f'first_pass_cache.whole_size={whole_size!r} must be height and width in pixels'
                )
        self.folder = Path(folder)
        self.dtype = dtype
        self.val = val
        self.augmented = augmented
        self.whole_size = whole_size
        self._parts: dict[int, PartsOfFirstPass] = {}  # by number of the cache
        self._caches: list[FirstPassCache] = []
        self._served: set[str] = set()
        self._using = ExitStack()

    def before_train(self, runner: Runner) -> None:
        """Find or compute the first passes of the training data."""
        model = unwrap(runner.model)
        self._check(model)
        if self.augmented and not model.backbone.coarse:
            raise ValueError(
                'first_pass_cache.augmented=True is for a coarse first pass: set '
                'model.backbone.first_pass=dict(scale=0.5)'
                if model.backbone.topdown is not None
                else 'first_pass_cache.augmented=True: without feedback (feedback_from=None) there '
                'is one pass, which has to see the augmented images'
            )
        if getattr(model.data_preprocessor, 'batch_augments', None) is not None:
            raise ValueError(
                'first_pass_cache: the data preprocessor mixes images at random '
                '(model.train_cfg.augments), so a first pass cannot be computed once'
            )
        self._serve(runner, 'train', runner.train_dataloader)

    def before_val(self, runner: Runner) -> None:
        """Find or compute the first passes of the validation data."""
        if not self.val or 'val' in self._served:
            return
        model = unwrap(runner.model)
        windows = (getattr(model, 'test_cfg', None) or {}).get('mode') == 'slide'
        if windows or isinstance(runner.model, BaseTTAModel):
            self.val = False
            runner.logger.info(
                f'The first passes of the val data are not cached: the backbone sees '
                f'{"sliding windows" if windows else "several views"} of every image'
            )
            return
        self._check(model)
        self._serve(runner, 'val', runner.val_dataloader)

    def _before_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, mode: str = 'train'
    ) -> None:
        samples = data_batch.get('data_samples') if isinstance(data_batch, Mapping) else None
        if mode not in self._served or not samples:
            return
        if 'first_pass' not in samples[0]:
            raise RuntimeError(
                f'first_pass_cache: the {mode} data were loaded before their first passes were '
                'provided; this build of mmengine starts its workers too early: set num_workers=0'
            )

    def _enter(self, model: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        """Before a forward of the model: let its backbone use the first passes of this batch."""
        self._using.close()  # still open if the previous forward was interrupted
        images, samples = _images_and_samples(*args, **kwargs)
        places = [sample.get('first_pass') for sample in samples or []]
        if places and None not in places:
            self._using.enter_context(model.backbone.using(self._read(places, images)))

    def _leave(self, model: Any, args: tuple, output: Any) -> None:
        self._using.close()

    def _read(self, places: list[tuple], images: Tensor) -> FirstPass:
        """First pass of a batch, from numbers of caches, indices in them, and views."""
        number = places[0][0]
        if all(place[0] == number for place in places):
            parts = [self._caches[number].read([index for _, index, *_ in places])]
        else:
            parts = [self._caches[number].read([index]) for number, index, *_ in places]
        streams = {}
        for block, stream in parts[0].streams.items():
            stream = torch.cat([part.streams[block] for part in parts]) if parts[1:] else stream
            streams[block] = stream.to(images.device).float()
        first = replace(parts[0], streams=streams, images=images)
        if number in self._parts:
            return self._parts[number](first, [view for *_, view in places], images)
        return first

    @staticmethod
    def _check(model: Any) -> None:
        backbone = backbone_of(model, 'first_pass_cache')
        if not isinstance(backbone, SteeredBackbone):
            raise ValueError(
                f'first_pass_cache: {type(backbone).__name__} has no first pass; it works with '
                'toast_mm.TOASTViT and toast_mm.TOASTConvNeXt'
            )
        exempt = ('topdown', 'modules_to_save') if backbone.topdown is not None else ()
        training = [
            name
            for name, parameter in backbone.named_parameters()
            if parameter.requires_grad and backbone.part_of(name) not in exempt
        ]
        if training:
            raise ValueError(
                f'first_pass_cache: {training[0]} and {len(training) - 1} other parameters of the '
                'first pass are trained; it can only be computed once in a frozen backbone'
            )

    def _serve(self, runner: Runner, mode: str, loader: DataLoader) -> None:
        config = (runner.cfg.get(f'{mode}_dataloader') or {}).get('dataset')
        if config is None or 'model' not in runner.cfg:
            raise ValueError(
                'first_pass_cache: the key of a cache needs the configs of the model and of the '
                f'{mode} data, but this Runner was built without them; use Runner.from_cfg'
            )
        if not self._served:
            model = unwrap(runner.model)
            model.register_forward_pre_hook(self._enter, with_kwargs=True)
            model.register_forward_hook(self._leave, always_call=True)
        self._served.add(mode)
        for dataset, part in zip(_leaves(loader.dataset), _leaves(config), strict=True):
            pipeline, number, steps = dataset.pipeline, len(self._caches), part['pipeline']
            if isinstance(pipeline, (ServedPipeline, TrackedPipeline)):
                continue
            if self.augmented and mode == 'train':
                dataset.pipeline = TrackedPipeline(pipeline, number)
                self._caches.append(self._find_whole(runner, loader, dataset, pipeline, steps))
            else:
                cache = self._find(runner, mode, loader, dataset, pipeline, steps)
                dataset.pipeline = ServedPipeline(pipeline, cache, number)
                self._caches.append(cache)

    def _find_whole(
        self, runner: Runner, loader: DataLoader, dataset: Any, pipeline: Any, steps: Any
    ) -> FirstPassCache:
        """Find the cache of the whole images of a data set whose pipeline is tracked."""
        height, width = self.whole_size or size_of_sample(dataset, pipeline)
        size = height, width
        loading = [step for step in steps if type_name(step).startswith('Load')]
        steps = [*loading, dict(type='whole image', size=size)]
        unseen = ', '.join(dataset.pipeline.unseen)
        runner.logger.info(
            f'The first passes of the train data are those of whole images of {height} x {width} '
            'pixels, and are cropped, flipped and resized as the images are: an approximation'
            + (f' that does not see {unseen}' if unseen else '')
        )
        self._parts[len(self._caches)] = PartsOfFirstPass(unwrap(runner.model).backbone, size)
        whole = whole_images(pipeline, size)
        return self._find(runner, 'train', loader, dataset, whole, steps)

    def _find(
        self,
        runner: Runner,
        mode: str,
        loader: DataLoader,
        dataset: Any,
        pipeline: Any,
        steps: Sequence[Mapping[str, Any]],
    ) -> FirstPassCache:
        """Find the cache of a data set and a pipeline, of these steps, or compute it."""
        backbone = unwrap(runner.model).backbone
        model = runner.cfg.model
        preprocessing = model.get('data_preprocessor') or runner.cfg.get('data_preprocessor')
        key = cache_key(backbone, model.backbone, preprocessing, steps, dataset, self.dtype)
        folder, lock = self.folder / key, self.folder / f'{key}.lock'
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f'first_pass_cache: {self.folder} is not a folder: {error}') from error
        for path, wanted in ((folder, folder.is_dir()), (lock, lock.is_file())):
            if path.exists() and not wanted:
                raise WriteError(
                    f'first_pass_cache: {path} is in the place of the cache: remove it'
                )
        name = f'First pass of the {mode} data'
        if _damage(folder) == []:
            runner.logger.info(f'{name}: found in {folder}')
            return FirstPassCache(folder)
        with FileLock(lock):  # one process computes, others wait for it
            damaged = _damage(folder)
            if damaged is None:
                if folder.exists():
                    runner.logger.warning(f'{name}: {folder} is damaged and is computed again')
                write(
                    folder,
                    len(dataset),
                    _run(unwrap(runner.model), dataset, loader, pipeline),
                    self.dtype,
                    with_images=backbone.needs_image and len(self._caches) not in self._parts,
                    announce=lambda text: _say(runner, f'{name}: computing {text}'),
                )
            elif damaged:
                runner.logger.warning(
                    f'{name}: {len(damaged)} of {len(dataset)} records in {folder} are damaged '
                    'and are computed again'
                )
                batches = _run(unwrap(runner.model), dataset, loader, pipeline, damaged)
                FirstPassCache(folder).mend(damaged, batches)
        return FirstPassCache(folder)


def _images_and_samples(
    inputs: Tensor, data_samples: Any = None, *args: Any, **kwargs: Any
) -> tuple[Tensor, Any]:
    """Images and samples from the arguments of a model of mmengine."""
    return inputs, data_samples


def _damage(folder: Path) -> list[int] | None:
    """Indices of the damaged records; None if there is no cache or it cannot be used at all."""
    try:
        return FirstPassCache(folder).damaged()
    except DamagedCacheError:
        return None


def _say(runner: Any, text: str) -> None:
    """Log a message, or print it if the log is silent, as in a sweep."""
    if any(handler.level <= logging.INFO for handler in runner.logger.handlers):
        runner.logger.info(text)
    else:
        print(f'\n{text}')


def _leaves(dataset: Any) -> Iterator[Any]:
    """The data sets below wrappers, or their configs."""
    for name in ('dataset', 'datasets'):
        below = dataset.get(name) if isinstance(dataset, Mapping) else getattr(dataset, name, None)
        if below is not None:
            for part in below if isinstance(below, (list, tuple)) else [below]:
                yield from _leaves(part)
            return
    yield dataset


def _run(
    model: Any,
    dataset: Any,
    loader: DataLoader,
    pipeline: Any,
    indices: Sequence[int] | None = None,
) -> Iterator[tuple[Tensor, FirstPass]]:
    """Yield batches of images of a data set, or of some indices, with their first passes."""
    original = dataset.pipeline
    dataset.pipeline = CheckedPipeline(pipeline)
    try:
        batches = DataLoader(
            dataset if indices is None else Subset(dataset, indices),
            loader.batch_size,
            num_workers=loader.num_workers,
            collate_fn=pseudo_collate,
        )
        progress = ProgressBar(len(batches), file=sys.stdout)
        shapes: set[tuple[int, ...]] = set()
        for batch in batches:
            shapes.update(tuple(image.shape[1:]) for image in batch['inputs'])
            if len(shapes) > 1:
                raise ValueError(
                    f'first_pass_cache: images of {sorted(shapes)} pixels; a first pass is cached '
                    'for images of one size'
                )
            images = torch.stack(batch['inputs'])
            with torch.no_grad():
                inputs = model.data_preprocessor(batch, False)['inputs']
                yield images, model.backbone.run_first_pass(inputs)
            progress.update()
        print()
    finally:
        dataset.pipeline = original
