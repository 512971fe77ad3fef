"""Training from a config with objects as hooks, and what observes it."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from toy_images import Spy

from toast_mm.engine import Runner


@pytest.fixture
def spy() -> Spy:
    return Spy()


@pytest.fixture
def run():
    """Train from a config; hooks may be objects."""

    def train(cfg: Config, *hooks: Hook, wrap=None) -> Runner:
        runner = Runner.from_cfg(cfg)
        for hook in hooks:
            runner.register_hook(hook)
        if wrap:
            runner.model = wrap(runner.model)
        runner.train()
        return runner

    return train
