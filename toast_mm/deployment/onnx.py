"""Export to ONNX."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import revert_sync_batchnorm
from torch import Tensor, nn

from toast_mm.engine.model import steered_backbone
from toast_mm.files import atomic_write


class Deployable(nn.Module):
    """A folded classifier or segmentor in eval mode, as a function of images only.

    Args:
        model: mmpretrain's ``ImageClassifier`` or mmseg's ``EncoderDecoder``.

    Attributes:
        channels: Order of the input channels.
        bands: Number of the input channels.
        window: Height and width of the sliding windows with which the config
            tests a segmentor; None if it tests whole images. The exported
            function does not slide.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        if steered_backbone(model) is not None:
            model.backbone.fold()
        self.model = revert_sync_batchnorm(model)
        preprocessor = model.data_preprocessor
        for name, neutral in (('mean', 0.0), ('std', 1.0)):  # absent if images are not normalised
            value = getattr(preprocessor, name, torch.tensor(neutral))
            self.register_buffer(name, value, persistent=False)
        converts = any(getattr(preprocessor, n, False) for n in ('to_rgb', '_channel_conversion'))
        self.channels = 'RGB' if converts else 'channels as the pipeline loads them'
        self.bands = getattr(model.backbone, 'in_channels', 3)
        self.is_segmentor = hasattr(model, 'decode_head')
        slides = self.is_segmentor and model.test_cfg.get('mode') == 'slide'
        self.window = tuple(model.test_cfg.crop_size) if slides else None
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, bands, H, W)`` from 0 to 255, ordered as :attr:`channels`, to logits.

        Returns:
            ``(B, classes)``, or ``(B, classes, H, W)`` of a segmentor.
        """
        x = (images - self.mean) / self.std
        if not self.is_segmentor:
            return self.model.head(self.model.extract_feat(x))
        scores = self.model._forward(x)
        align = self.model.align_corners
        return F.interpolate(scores, images.shape[-2:], mode='bilinear', align_corners=align)


def export_onnx(
    model: Deployable, path: str, size: tuple[int, int], tolerance: float = 1e-4
) -> float:
    """Write a model as ONNX for images of one size, in batches of any size.

    The file is kept only if onnxruntime and PyTorch compute the same scores.

    Args:
        model: The model with all its weights.
        path: File to write, ending in ``.onnx``.
        size: Height and width of the images.
        tolerance: Largest allowed difference of scores, relative to the largest
            score. Defaults to 1e-4.

    Returns:
        The largest relative difference found.

    Raises:
        ImportError: ``onnx``, ``onnxscript`` or ``onnxruntime`` is missing.
        ValueError: The exported model computes other scores.
        WriteError: The file cannot be written.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ImportError as error:
        raise ImportError(f'{error}; pip install "toast_mm[onnx]"') from error
    images = 255 * torch.rand(3, model.bands, *size)
    with torch.no_grad(), atomic_write(path) as partial:
        torch.onnx.export(
            model,
            (images[:2],),
            partial,
            input_names=['images'],
            output_names=['scores'],
            dynamic_shapes=({0: torch.export.Dim('batch', min=1)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        session = onnxruntime.InferenceSession(os.fspath(partial))
        difference = 0.0
        for batch in (images, images[:1]):
            expected = model(batch)
            given = torch.from_numpy(session.run(None, {'images': batch.numpy()})[0])
            off = (given - expected).abs().max() / expected.abs().max()
            difference = max(difference, off.item())
        if not difference <= tolerance:
            raise ValueError(
                f'{path} is not written: its scores differ from PyTorch by {difference:.1e} of the '
                f'largest score, more than tolerance={tolerance:g}'
            )
    return difference
