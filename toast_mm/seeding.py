"""Seeding all random generators from counters."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from mmengine.device import get_device
from torch.utils.data import get_worker_info


def seed_everything(*counters: int) -> None:
    """Seed Python, numpy and torch (all devices) from non-negative counters.

    Different counters give independent streams; equal ones the same stream.
    """
    # The length first, since SeedSequence treats (1, 2) and (1, 2, 0) alike.
    sequence = np.random.SeedSequence((len(counters), *counters))
    python, numpy, pytorch = sequence.generate_state(3)
    random.seed(int(python))
    np.random.seed(numpy)
    # torch.manual_seed also formats the stack, for GPUs that may be found later: that takes longer
    # than to load and augment a small image. Processes that load data use no GPU.
    if get_device() == 'cpu' or get_worker_info() is not None:
        torch.default_generator.manual_seed(int(pytorch))
    else:
        torch.manual_seed(int(pytorch))


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Leave all random generators as they were; numbers drawn inside the context do not count.

    The generators of GPUs are kept, too, if this process has used a GPU. A process that loads data
    has not, and cannot.
    """
    python, numpy = random.getstate(), np.random.get_state()
    gpus = range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0)
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
