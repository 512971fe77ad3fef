"""Transforms that mmcv, mmpretrain and mmseg lack."""

from __future__ import annotations

import mmcv.transforms
import mmseg.datasets.transforms
from mmcv.transforms import BaseTransform

from toast_mm.datasets.samplers import take_draw
from toast_mm.registry import TRANSFORMS
from toast_mm.seeding import seed_everything


@TRANSFORMS.register_module()
class SeedAugmentation(BaseTransform):
    """Make the random transforms behind it a function of (seed, number of the draw).

    Stands first in a training pipeline, behind a sampler of this project. Then
    augmentation does not depend on workers or processes, and a resumed run
    goes on exactly as an uninterrupted one would.

    Raises:
        ValueError: The indices do not come from a sampler of this project.
    """

    def transform(self, results: dict) -> dict:
        """Seed from the draw; results stay as they are."""
        try:
            draw = take_draw()
        except LookupError:
            raise ValueError(
                'SeedAugmentation needs a sampler that counts its draws, made for this data set: '
                "say sampler=dict(type='toast_mm.InfiniteSampler') or 'toast_mm.DefaultSampler'"
            ) from None
        # None: of images that are mixed in or stand in for an unusable one, within its stream.
        if draw is not None:
            seed_everything(*draw)
        return results


@TRANSFORMS.register_module()
class LoadImageFromFile(mmcv.transforms.LoadImageFromFile):
    """mmcv's ``LoadImageFromFile``, with an error that names the file that it cannot decode.

    Passes by where the image is there without a path: mmpretrain's inferencers load it themselves.
    """

    def transform(self, results: dict) -> dict | None:
        """Read ``results['img_path']`` into ``results['img']``, ``(H, W, 3)``, BGR."""
        if 'img' in results and 'img_path' not in results:
            return results
        try:
            return super().transform(results)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f'{results["img_path"]} cannot be decoded as an image') from error


@TRANSFORMS.register_module()
class LoadAnnotations(mmseg.datasets.transforms.LoadAnnotations):
    """mmseg's ``LoadAnnotations``, with an error that names the mask that it cannot decode.

    Passes by where there is no truth to load, so that a test pipeline serves inference as well.
    """

    def transform(self, results: dict) -> dict:
        """Read ``results['seg_map_path']`` into ``results['gt_seg_map']``, ``(H, W)``."""
        if 'seg_map_path' not in results:
            return results
        try:
            return super().transform(results)
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f'{results["seg_map_path"]} cannot be decoded as a mask') from error
