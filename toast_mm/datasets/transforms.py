"""Transforms that mmcv, mmpretrain and mmseg lack."""

from __future__ import annotations

import mmcv.transforms
import mmseg.datasets.transforms
from mmcv.transforms import BaseTransform

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

    def __init__(self) -> None:
        self._seeded = False

    def transform(self, results: dict) -> dict:
        """Seed from ``results['sample_idx']``; results stay as they are."""
        draw = getattr(results['sample_idx'], 'draw', None)
        if draw is not None:
            seed_everything(*draw)
            self._seeded = True
        elif not self._seeded:
            raise ValueError(
                'SeedAugmentation needs a sampler that counts its draws: say '
                "sampler=dict(type='toast_mm.InfiniteSampler') or 'toast_mm.DefaultSampler'"
            )
        # Otherwise mmengine fetches a substitute for an unusable sample, within the stream of that.
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
