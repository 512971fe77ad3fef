"""How much of the attention is on the object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from torch import Tensor

from toast_mm.registry import METRICS
from toast_mm.visualization import attention_maps


@METRICS.register_module()
class AttentionInside(BaseMetric):
    """Share of the attention to the image that falls on its objects, in percent.

    Objects are the masks of segmented images, or the boxes ``gt_bboxes`` of classified images. The
    metric gives, with the prefix ``attention_inside/`` and averaged over the images:

    - ``first``: the share in the first pass, or in the only pass without a top-down module.
    - ``second``: the share in the second pass.
    - ``uniform``: the share that a uniform map has: the area of the objects. It shows how to read
      the others.

    Attention is averaged over the heads, and evenly spread over the pixels of a patch. Its sum over
    the patches is 1: attention to class and register tokens does not count. For a network of stages
    the metric measures the energy of the features, and the first two are ``energy_first`` and
    ``energy_second``. Images without an object are left out.

    The metric runs the backbone once more on the whole images of a batch. :class:`MetricModelHook`
    in ``custom_hooks`` gives it the model.

    Args:
        classes: Names or numbers of the classes of masks that are objects. Defaults to None: all
            but ``'background'``.
        block: Number of the block, or stage; negative ones count from the end. Defaults to None,
            the last block that runs in both passes.
        ignore_index: Label of pixels that do not count. Defaults to 255.
        **kwargs: Arguments of mmengine's ``BaseMetric``.

    Raises:
        ValueError: The model is not known, a class does not exist, or images have no objects.

    Example:
        >>> test_evaluator = [
        ...     dict(type='mmseg.IoUMetric', iou_metrics=['mIoU']),
        ...     dict(type='toast_mm.AttentionInside', classes=['bird'])]
    """

    default_prefix = 'attention_inside'

    def __init__(
        self,
        classes: Sequence[str | int] | None = None,
        block: int | None = None,
        ignore_index: int = 255,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.classes = classes
        self.block = block
        self.ignore_index = ignore_index
        self.model: Any = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the shares of the images of a batch."""
        if self.model is None:
            raise ValueError(
                "AttentionInside does not know the model: add dict(type='toast_mm.MetricModelHook')"
                ' to custom_hooks'
            )
        images = self.model.data_preprocessor(data_batch, False)['inputs']
        (maps,) = attention_maps(self.model.backbone, images, self.block).values()
        maps, prefix = maps.mean(), '' if maps.what == 'attention' else 'energy_'
        for index, sample in enumerate(data_samples):
            objects, counted = self._objects(sample)
            if not objects.any():
                continue
            shares = dict(uniform=(objects.sum() / counted.sum()).item())
            for name, found in ((f'{prefix}first', maps.first), (f'{prefix}second', maps.second)):
                if found is not None:
                    seen = _at_pixels(found[index, 0], images.shape[-2:], sample, objects.shape)
                    shares[name] = ((seen * objects).sum() / (seen * counted).sum()).item()
            self.results.append(shares)

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        """Mean shares of all images, in percent."""
        if not results:
            raise ValueError('AttentionInside: no image has an object, or the data set is empty')
        return {name: 100 * fmean(result[name] for result in results) for name in results[0]}

    def _objects(self, sample: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Share of every pixel ``(H, W)`` that belongs to an object, and that counts."""
        if 'gt_sem_seg' in sample:
            labels = sample['gt_sem_seg']['data'].squeeze(0).cpu()
            counted = labels != self.ignore_index
            return (torch.isin(labels, self._labels()) & counted).double(), counted.double()
        if 'gt_bboxes' not in sample:
            raise ValueError(
                f'AttentionInside: {sample.get("img_path", "an image")} has neither a mask '
                '(gt_sem_seg) nor boxes (gt_bboxes): let the pipeline load them '
                "(dict(type='mmcv.LoadAnnotations', with_label=False)) and pack them "
                "(dict(type='PackInputs', algorithm_keys=['gt_bboxes']))"
            )
        boxes = torch.as_tensor(sample['gt_bboxes']).double().cpu().reshape(-1, 4)
        height, width = sample['img_shape'][:2]
        inside = torch.zeros(height, width, dtype=torch.double)
        for left, top, right, bottom in boxes.tolist():
            covered = torch.outer(_cover(top, bottom, height), _cover(left, right, width))
            inside = torch.maximum(inside, covered)
        return inside, torch.ones_like(inside)

    def _labels(self) -> Tensor:
        """Labels of the classes that are objects."""
        names = list(self.dataset_meta['classes'])
        if self.classes is None:
            if 'background' not in names:
                raise ValueError(
                    'AttentionInside: no class of the data is named background, so say which '
                    f'classes are objects: classes=[{names[0]!r}], of {", ".join(names)}'
                )
            return torch.tensor([n for n, name in enumerate(names) if name != 'background'])
        known = {**{n: n for n in range(len(names))}, **{name: n for n, name in enumerate(names)}}
        if unknown := [name for name in self.classes if name not in known]:
            raise ValueError(
                f'AttentionInside: classes={self.classes}: {unknown[0]!r} is no class of the data, '
                f'which are {", ".join(names)}'
            )
        return torch.tensor([known[name] for name in self.classes])


def _cover(start: float, end: float, length: int) -> Tensor:
    """Share of every pixel of a row that lies between two places."""
    left = torch.arange(length, dtype=torch.double)
    return ((left + 1).clamp(max=end) - left.clamp(min=start)).clamp(0, 1)


def _at_pixels(
    attention: Tensor, padded: Sequence[int], sample: Mapping[str, Any], size: Sequence[int]
) -> Tensor:
    """Attention at every pixel of an image.

    Args:
        attention: Map ``(h, w)`` over the image that the backbone saw.
        padded: Height and width of that image, whose right and bottom may be padding.
        sample: The sample, which knows the size of the image without padding.
        size: Height and width of the image in which the objects are.

    Raises:
        ValueError: Patches do not fill the image evenly.
    """
    places = []
    for patches, whole, part, pixels in zip(
        attention.shape, padded, sample['img_shape'][:2], size, strict=True
    ):
        if whole % patches:
            raise ValueError(
                f'AttentionInside: images of {tuple(padded)} pixels are not evenly divided by a '
                f'map of {tuple(attention.shape)}: resize them to multiples of its cells'
            )
        middles = torch.arange(pixels, dtype=torch.double) + 0.5
        places.append((middles * part / pixels * patches / whole).long())
    return attention.double().cpu()[places[0]][:, places[1]]
