"""Pipelines for cached first passes: one to compute them, one to load them in training."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import torch

from toast_mm.datasets import SeedAugmentation

from .cache import FirstPassCache


class CheckedPipeline:
    """A pipeline that raises an error if a transform is random.

    Raises:
        ValueError: A transform draws a random number; the message names the transform.
    """

    def __init__(self, pipeline: Any) -> None:
        # Seeding is not needed without random transforms.
        self.transforms = [t for t in pipeline.transforms if not isinstance(t, SeedAugmentation)]

    def __call__(self, results: dict) -> dict | None:
        """Run the transforms."""
        for transform in self.transforms:
            name = type(transform).__name__
            before = _random_state()
            results = transform(results)
            # Albumentations use their own generators.
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
    """A pipeline whose samples refer to their first pass in a cache.

    For a classification sample the image file is not opened. Other samples run through all
    transforms, since their truth may need the image.

    Args:
        pipeline: The pipeline; it must not be random.
        cache: First passes of its data set.
        number: Number of this cache in the run.
    """

    def __init__(self, pipeline: Any, cache: FirstPassCache, number: int) -> None:
        self.pipeline = pipeline
        self.cache = cache
        self.number = number
        last = pipeline.transforms[-1]
        self.pack = last if type(last).__name__ == 'PackInputs' else None

    def __call__(self, results: dict) -> dict:
        """Make a sample with ``first_pass``: number of the cache and index in it."""
        index = int(results['sample_idx'])
        if self.pack is None:
            packed = self.pipeline(results)
        else:
            packed = self.pack({**results, 'img': self.cache.image(index)})
        packed['data_samples'].set_metainfo(dict(first_pass=(self.number, index)))
        return packed
