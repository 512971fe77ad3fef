"""Transforms that mmcv, mmpretrain and mmseg lack."""

from __future__ import annotations

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
