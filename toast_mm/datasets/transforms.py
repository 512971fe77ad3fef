"""Transforms that mmcv, mmpretrain and mmseg lack."""

from __future__ import annotations

from mmcv.transforms import BaseTransform

from toast_mm.datasets.samplers import take_draw
from toast_mm.registry import TRANSFORMS
from toast_mm.seeding import seed_everything


@TRANSFORMS.register_module()
class SeedAugmentation(BaseTransform):
    """Make the random transforms after it a function of (seed, number of the draw).

    It is the first transform of a training pipeline and needs a sampler of this
    project. Augmentation then does not depend on the number of workers and
    processes, and a resumed run continues exactly as an uninterrupted one.

    Raises:
        ValueError: The indices do not come from a sampler of this project.
    """

    def transform(self, results: dict) -> dict:
        """Seed from the draw; the results do not change."""
        try:
            draw = take_draw()
        except LookupError:
            raise ValueError(
                'SeedAugmentation needs a sampler of toast_mm for this data set: set '
                "sampler=dict(type='toast_mm.InfiniteSampler') or 'toast_mm.DefaultSampler'"
            ) from None
        # None: an image to mix in or a replacement, which continues the random state of its sample.
        if draw is not None:
            seed_everything(*draw)
        return results
