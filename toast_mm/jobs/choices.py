"""What a user may choose of a job."""

from __future__ import annotations

from dataclasses import dataclass

from toast_mm.engine.config import ConfigError


@dataclass(frozen=True)
class Choices:
    """What a user may choose; see :func:`~toast_mm.apis.job_config`."""

    image_size: int | None = None
    epochs: int | None = None
    max_iters: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    flip: bool = True
    checkpoint: str | None = None
    pretuned: str | None = None
    held_out: float = 0.2
    seed: int = 0

    def check(self, task: str) -> None:
        """Check the numbers.

        Raises:
            ConfigError: One is too low, or for another task.
        """
        right, wrong = ('epochs', 'max_iters')[:: 1 if task == 'classification' else -1]
        if getattr(self, wrong) is not None:
            raise ConfigError(f'{wrong}={getattr(self, wrong)}: for {task} say {right}')
        for name in ('image_size', right, 'batch_size'):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ConfigError(f'{name}={number} must be at least 1')
        if self.lr is not None and not self.lr > 0:
            raise ConfigError(f'lr={self.lr} must be above 0')
        if self.seed < 0:
            raise ConfigError(f'seed={self.seed} must be at least 0')
