"""Seeding all random generators from counters."""

import random

import numpy as np
import torch


def seed_everything(*counters: int) -> None:
    """Seed Python, numpy and torch (all devices) from non-negative counters.

    Different counters give independent streams; equal ones the same stream.
    """
    # The length first, since SeedSequence treats (1, 2) and (1, 2, 0) alike.
    sequence = np.random.SeedSequence((len(counters), *counters))
    python, numpy, pytorch = sequence.generate_state(3)
    random.seed(int(python))
    np.random.seed(numpy)
    torch.manual_seed(int(pytorch))
