"""Pipelines of data whose first passes are cached: to compute them by, and to serve them by."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import torch

from toast_mm.datasets import SeedAugmentation

from .cache import FirstPassCache


class CheckedPipeline:
    """A pipeline that refuses to be random.

    Raises:
        ValueError: A transform draws a random number; names it.
    """

    def __init__(self, pipeline: Any) -> None:
        # Seeding has no meaning where nothing is drawn.
        self.transforms = [t for t in pipeline.transforms if not isinstance(t, SeedAugmentation)]

    def __call__(self, results: dict) -> dict | None:
        """Run the transforms."""
        for transform in self.transforms:
            name = type(transform).__name__
            before = _random_state()
            results = transform(results)
            # Albumentations draw from generators of their own.
            if name.startswith('Albu') or _random_state() != before:
                raise ValueError(
                    f'first_pass_cache: {name} is random, so that the first pass differs from '
                    'epoch to epoch and cannot be computed once: take it out of the pipeline, or '
                    'train without the cache'
                )
        return results


def _random_state() -> tuple:
    return (
        random.getstate(),
        pickle.dumps(np.random.get_state()),
        torch.get_rng_state().numpy().tobytes(),
    )


class ServedPipeline:
    """A pipeline whose images come from a cache, and whose samples say which first pass is theirs.

    A classification sample is packed without its image file being opened. Others, which may need
    the image for their truth, go through their transforms.

    Args:
        pipeline: The pipeline, checked to be without randomness.
        cache: First passes of its data set.
        number: Which one of the caches of the run this is.
    """

    def __init__(self, pipeline: Any, cache: FirstPassCache, number: int) -> None:
        self.pipeline = pipeline
        self.cache = cache
        self.number = number
        last = pipeline.transforms[-1]
        self.pack = last if type(last).__name__ == 'PackInputs' else None

    def __call__(self, results: dict) -> dict:
        """Sample with ``first_pass``: number of the cache and index in it."""
        index = int(results['sample_idx'])
        if self.pack is None:
            packed = self.pipeline(results)
        else:
            packed = self.pack({**results, 'img': self.cache.image(index)})
        packed['data_samples'].set_metainfo(dict(first_pass=(self.number, index)))
        return packed
