"""Predictions of a classifier or segmentor, for images of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmpretrain.models import ImageClassifier
from mmseg.models import BaseSegmentor
from mmseg.utils import get_palette

from toast_mm.apis.attention import Attention, on_cpu
from toast_mm.apis.batches import batches, collate
from toast_mm.apis.pictures import Preparation, Sample, list_pictures
from toast_mm.apis.result_list import Results
from toast_mm.apis.results import Classification, Result, Segmentation
from toast_mm.engine.heads import label_heads
from toast_mm.engine.views import view_of


class Predictor:
    """A trained classifier or segmentor with the preparation of its images.

    :func:`load` makes predictors. They prepare images by the test pipeline of the config. They do
    not change global state, such as mmengine's default scope.

    Args:
        model: The model, in eval mode.
        cfg: Its config; only the test pipeline and the scope are read.
        dataset_meta: ``classes``, and ``palette`` of a segmentor. Without them, classes are called
            by their numbers, and have the colours of ADE20K.
        name: What the predictor is called, such as its file.

    Attributes:
        model: The model.
        cfg: Its config.
        classes: Names of the classes.
        palette: Colours of the classes of a segmentor: RGB, from 0 to 255.

    Raises:
        ConfigError: The config has no test pipeline.
        ValueError: The model is neither a classifier nor a segmentor, or has another number of
            classes than there are names.

    Example:
        >>> predictor = toast_mm.apis.load('birds.safetensors')
        >>> result = predictor.predict('sparrow.jpg')[0]
        >>> result.label, result.score
        ('sparrow', 0.93)
        >>> predictor.predict('photos', batch_size=32).save('predicted')
    """

    def __init__(
        self, model: Any, cfg: Config, dataset_meta: dict | None = None, name: str = ''
    ) -> None:
        if not isinstance(model, (ImageClassifier, BaseSegmentor)):
            raise ValueError(
                f'{name or "the model"} is a {type(model).__name__}: predictions are made of an '
                'ImageClassifier or a segmentor'
            )
        self.model, self.cfg, self.name = model, cfg, name
        self.preparation = Preparation(cfg)
        meta = dataset_meta or {}
        head, number = next(
            ((name, head.num_classes) for name, head in label_heads(model).items()), ('', 0)
        )
        self.classes = [str(name) for name in meta.get('classes') or range(number)]
        if number not in (0, len(self.classes)):
            raise ValueError(
                f'{name or "the model"} has names for {len(self.classes)} classes, but model.{head}'
                f'.num_classes={number}'
            )
        self.palette = [list(colour) for colour in meta.get('palette') or ()] or _colours(number)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def is_segmentor(self) -> bool:
        """Whether it predicts classes of pixels; otherwise, of images."""
        return isinstance(self.model, BaseSegmentor)

    def predict(
        self,
        inputs: Any,
        batch_size: int = 8,
        progress: bool = True,
        on_error: str = 'raise',
    ) -> Results[Any]:
        """Predict images.

        Args:
            inputs: A path, URL, PIL image, array or folder, or a list of these. Arrays are ``(H, W,
                3)`` of ``uint8`` in **RGB**, as PIL gives them (mmpretrain and mmseg take BGR:
                ``array[..., ::-1]``), or gray ``(H, W)``. Where the pipeline loads bands, they are
                ``(H, W, C)`` of all bands. A folder stands for all images below it, sorted by
                path; a warning names its other files.
            batch_size: Number of images that the model sees at once, if they have the same size
                after preparation. Defaults to 8.
            progress: Whether to show a progress bar for several images. Defaults to True.
            on_error: What to do with a picture that cannot be read: ``'raise'`` an error, or
                ``'skip'`` it with a warning. Defaults to ``'raise'``.

        Returns:
            A list, in the order of the inputs, of :class:`Classification` or :class:`Segmentation`.

        Raises:
            FileNotFoundError: There is no such image or folder.
            TypeError: An input is none of these.
            ValueError: A picture cannot be read, or a folder holds none; the message names it.
        """
        pictures = list_pictures(inputs, self.preparation.suffixes, on_error == 'skip')
        found: dict[int, Result] = {}
        for batch in batches(self.preparation, pictures, batch_size, progress, on_error):
            with torch.no_grad():
                predictions = self.model.test_step(collate(batch))
            for (number, sample), prediction in zip(batch, predictions, strict=True):
                found[number] = self.result(sample, prediction)
        return Results(found[number] for number in sorted(found))

    def attention(
        self,
        inputs: Any,
        blocks: Sequence[int] | int | None = None,
        progress: bool = True,
        on_error: str = 'raise',
    ) -> Results[Attention]:
        """Compute where the model looks, in both passes.

        Args:
            inputs: As for :meth:`predict`.
            blocks: Numbers of blocks, or of stages; negative ones count from the end. Defaults to
                None, the last block that runs in both passes.
            progress: As for :meth:`predict`.
            on_error: As for :meth:`predict`.

        Raises:
            FileNotFoundError: As for :meth:`predict`.
            TypeError: As for :meth:`predict`.
            ValueError: As for :meth:`predict`; or the model has no such maps or no such block.

        Example:
            >>> predictor.attention('bird.jpg', blocks=[-2, -1])[0].show()
        """
        pictures = list_pictures(inputs, self.preparation.suffixes, on_error == 'skip')
        found = []
        for batch in batches(self.preparation, pictures, 1, progress, on_error):
            for _, sample in batch:
                view = view_of(self.model, sample.packed, self.preparation.loader, blocks, True)
                maps = {block: on_cpu(maps) for block, maps in view.maps.items()}
                found.append(Attention(view.image, sample.path, maps, view.method, view.covered))
        return Results(found)

    def result(self, sample: Sample, prediction: Any) -> Result:
        """Turn a prediction of the model into a result.

        Args:
            sample: The prepared image.
            prediction: What ``test_step`` of the model returned for it.
        """
        if self.is_segmentor:
            labels = prediction.pred_sem_seg.data[0].cpu().numpy()
            labels = labels.astype(np.uint8 if len(self.classes) <= 256 else np.uint16)
            return Segmentation(sample.image, sample.path, labels, self.classes, self.palette)
        scores = prediction.pred_score.float().cpu().numpy()
        return Classification(sample.image, sample.path, scores, self.classes)

    def _facts(self) -> dict[str, str]:
        backbone = getattr(self.model, 'backbone', None)
        names = ', '.join(self.classes[:8]) + (', ...' if len(self.classes) > 8 else '')
        return {
            'file': self.name,
            'model': type(self.model).__name__,
            'backbone': f'{type(backbone).__name__} ({getattr(backbone, "method", "plain")})',
            f'{len(self.classes)} classes': names,
            'device': str(self.device),
        }

    def __repr__(self) -> str:
        facts = self._facts()
        return (
            f'Predictor({self.name or facts["model"]}: {len(self.classes)} classes, '
            f'{facts["backbone"]}, {facts["device"]})'
        )

    def _repr_html_(self) -> str:
        rows = (
            f'<tr><th style="text-align:left">{escape(key)}</th>'
            f'<td style="text-align:left">{escape(value)}</td></tr>'
            for key, value in self._facts().items()
        )
        return f'<table>{"".join(rows)}</table>'


def _colours(number: int) -> Sequence[Sequence[int]]:
    """Colours for classes that have none: those of ADE20K, again and again."""
    colours = get_palette('ade20k')
    return [colours[n % len(colours)] for n in range(number)]
