"""Memory and times of functions: for cost.py and first_passes.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from statistics import median

import torch
from torch import Tensor


def saved_for_backward(run: Callable[[], None], parameters: Iterable[Tensor]) -> float:
    """MiB that a training step saves for the backward pass, without parameters."""
    own = {p.untyped_storage().data_ptr() for p in parameters}
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run()
    return sum(sizes.values()) / 2**20


def paired(
    one: Callable[[], None], other: Callable[[], None], repeats: int, device: str = 'cpu'
) -> tuple[float, float]:
    """Run two functions in turns: median ratio of their times, and median time of the second."""
    for _ in range(1 if device == 'cpu' else 3):
        one(), other()
    pairs = []
    for _ in range(repeats):
        times = []
        for run in (one, other):
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            times.append(time.perf_counter() - start)
        pairs.append(times)
    return median(b / a for a, b in pairs), median(b for _, b in pairs)


def _wait(device: str) -> None:
    """Wait until a GPU has finished."""
    if device == 'cuda':
        torch.cuda.synchronize()
