"""Damaged checkpoints: to predict with, to test, to start from, and as the base of a training."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bad_world import World, check_equal
from judging import Case, WrongResultError

from toast_mm.apis import load
from toast_mm.checkpoint import load_from_local

from .weights import KINDS, content, damaged, torch_content, valid_forms

UNUSUAL = ('unusual forms', 'a wrong suffix', 'further keys')


class Checkpoints:
    """Checkpoints of a whole model, as ``.pth`` and ``.safetensors``."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.results: dict[str, Any] = {}

    @functools.cached_property
    def clean(self) -> Path:
        return self.world.trained / 'trained/epoch_1.pth'

    def case(self, turn: int) -> Case:
        kinds = (*KINDS, *UNUSUAL, 'missing', 'a folder')
        rounds, kind = divmod(turn, len(kinds))
        damage = kinds[kind]
        consumers = (self.predicted, self.tested, self.started, self.based)
        consumer = consumers[(kind + rounds) % 4]
        path = self.spoil(self.world.fresh(), damage)
        run = functools.partial(self.compare, consumer, path)
        names = (path.name, 'unexpected key') if damage == 'further keys' else (path.name,)
        # A key too many is refused where the whole model is meant.
        valid = damage in UNUSUAL[::2] and consumer == self.started
        return Case('checkpoints', damage, names, run, valid)

    def spoil(self, folder: Path, damage: str) -> Path:
        rng, checkpoint = self.world.random, load_from_local(str(self.clean))
        weights = dict(checkpoint['state_dict'])
        meta = {name: checkpoint['meta'][name] for name in ('cfg', 'dataset_meta')}
        path = folder / 'broken.pth'
        if damage == 'a folder':
            path.mkdir()
        elif damage == 'a wrong suffix':
            suffixes = rng.sample(['.pth', '.safetensors'], 2)
            path = path.with_suffix(suffixes[0])
            path.write_bytes(content(weights, meta, suffixes[1]))
        elif damage == 'further keys':
            path.write_bytes(content(weights | {'extra.weight': torch.ones(3)}, meta, '.pth'))
        elif damage == 'unusual forms':
            path.write_bytes(torch_content(valid_forms(weights, rng)))
        elif damage != 'missing':
            written, suffix = damaged(weights, meta, damage, rng)
            path = path.with_suffix(suffix)
            path.write_bytes(written)
        return path

    def compare(self, consumer: Callable[[Path], Any], path: Path) -> None:
        """Compare what a file leads to with what the clean one leads to."""
        name = consumer.__name__
        if name not in self.results:
            self.results[name] = consumer(self.clean)
        found, expected = consumer(path), self.results[name]
        if isinstance(found, dict):
            check_equal(found, expected, name)
        elif not np.array_equal(found, expected):
            raise WrongResultError(f'{name}: other scores than those of the clean file')

    def predicted(self, path: Path) -> Any:
        """Scores of some images."""
        predictor = load(self.world.trained / 'short.py', path, device='cpu')
        results = predictor.predict(self.world.images / 'val', progress=False)
        return np.stack([result.scores for result in results])

    def tested(self, path: Path) -> Any:
        """Scores of the test images by ``tools/test.py``."""
        out = self.world.fresh() / 'out.pkl'
        config = self.world.trained / 'short.py'
        self.world.tool('test', config, path, '--work-dir', out.parent, '--out', out)
        return np.stack([sample['pred_score'].numpy() for sample in pickle.loads(out.read_bytes())])

    def started(self, path: Path) -> Any:
        """Weights of a training that starts from a file."""
        return self.trained(load_from=path)

    def based(self, path: Path) -> Any:
        """Weights of a training whose base is a file."""
        init_cfg = f"dict(type='Pretrained', checkpoint='{path}', prefix='backbone.')"
        return self.trained(**{'model.backbone.init_cfg': init_cfg})

    def trained(self, **settings: Any) -> Any:
        config = self.world.fresh() / 'job.py'
        lines = [f"_base_ = '{self.world.trained}/short.py'"]
        for key, value in settings.items():
            *sections, last = key.split('.')
            text = value if isinstance(value, str) else repr(str(value))
            for section in [last, *sections[::-1]]:
                text = f'{section}={text}' if section == last else f'{section}=dict({text})'
            lines.append(text)
        config.write_text('\n'.join(lines) + '\n')
        return self.world.train(config)
