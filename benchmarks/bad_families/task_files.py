"""Damaged task files: tuned weights, a record of their base, and a config."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bad_world import World
from judging import Case, WrongResultError

from toast_mm.apis import load
from toast_mm.checkpoint import load_from_local
from toast_mm.checkpoint.adapter import record_name

from .weights import KINDS, OF_TENSORS, content, damaged

# Values of other types for a field of the record.
TYPES = [None, 5, 'text', [], {}, [5], True, {'x': 1}, [{'x': 1}]]


def of_other_type(record: dict, rng: random.Random) -> None:
    """Give a field a value of another type."""
    key = rng.choice([*record])
    record[key] = rng.choice([value for value in TYPES if type(value) is not type(record[key])])


def missing_field(record: dict, rng: random.Random) -> None:
    key = rng.choice([*record])
    del record[key]


def other_base(record: dict, rng: random.Random) -> None:
    digest = record['fingerprint']
    record['fingerprint'] = rng.choice([digest[:-1] + '0', digest[::-1], '', 'x' * 64])


def other_method(record: dict, rng: random.Random) -> None:
    record['method'] = rng.choice(['LoRA', 'linear probe', 'TOAST-Lite', ''])


def other_signature(record: dict, rng: random.Random) -> None:
    key = rng.choice([*record['signature']])
    value = record['signature'][key]
    record['signature'][key] = not value if isinstance(value, bool) else 'another'


def other_route(record: dict, rng: random.Random) -> None:
    key = rng.choice([*record['route']])
    record['route'][key] += rng.choice([-1, 1, 7])


def base_elsewhere(record: dict, rng: random.Random) -> None:
    file = rng.choice(
        ['/gone/base.pth', 'gone.safetensors', 'toast_mm://gone.safetensors', '', '/']
    )
    record['init_cfg'][0]['checkpoint'] = file


def other_prefix(record: dict, rng: random.Random) -> None:
    record['init_cfg'][0]['prefix'] = rng.choice(['model.', 5, '', 'head.'])


def further_field(record: dict, rng: random.Random) -> None:
    record['init_cfg'][0]['further'] = 1


OF_RECORDS: dict[str, Callable[[dict, random.Random], None]] = {
    'record: a value of another type': of_other_type,
    'record: a missing field': missing_field,
    'record: another fingerprint': other_base,
    'record: another method': other_method,
    'record: another signature': other_signature,
    'record: another route': other_route,
    'record: its base is elsewhere': base_elsewhere,
    'record: another prefix': other_prefix,
    'record: a further argument': further_field,
}


def not_json(bytes_: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(1, len(bytes_))
    return rng.choice([b'', bytes_[:place], bytes_[place:], b'5', b'[]', b'null', b'\xff' + bytes_])


def other_numbers(record: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """The record as a tensor of another form."""
    return rng.choice(
        [record.float(), record.long() + 300, record.reshape(1, -1), record[:0], -record.long()]
    )


def config_cut(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text))]


def config_of_code(text: str, rng: random.Random) -> str:
    kind = rng.choice(['os.system', 'builtins.print', 'subprocess.Popen', 'Nothing', ''])
    return re.sub(r"'(ImageClassifier|toast_mm\.TOASTViT)'", repr(kind), text, count=1)


def other_config(text: str, rng: random.Random) -> str:
    return rng.choice(['', 'model = 5', 'model = dict()', '404: not found', 'a = 1', '\x00'])


OF_CONFIGS: dict[str, Callable[[str, random.Random], str]] = {
    'config: truncated': config_cut,
    'config: other classes': config_of_code,
    'config: something else': other_config,
}
OTHERS = ('record: no JSON', 'record: another tensor', 'classes: another number', 'base changed')


class TaskFiles:
    """Task files, loaded with their own config or with that of their training."""

    def __init__(self, world: World) -> None:
        self.world = world

    @functools.cached_property
    def clean(self) -> Path:
        """A task file, whose base is ``base.pth`` beside it."""
        folder = self.world.folder / 'clean_task'
        folder.mkdir()
        weights = load_from_local(str(self.world.trained / 'trained/epoch_1.pth'))['state_dict']
        base = {name: tensor for name, tensor in weights.items() if 'topdown' not in name}
        torch.save(dict(state_dict=base), folder / 'base.pth')
        (folder / 'task.py').write_text(
            f"_base_ = '{self.world.trained}/short.py'\n"
            "init_cfg = dict(type='Pretrained', "
            f"checkpoint='{folder}/base.pth', prefix='backbone.')\n"
            'model = dict(backbone=dict(init_cfg=init_cfg))\n'
            'task_files = True\n'
        )
        self.world.silent_train(folder / 'task.py')
        # The config in a file for release names no base: only the record does.
        published = folder / 'task.safetensors'
        with contextlib.redirect_stdout(io.StringIO()):
            self.world.tool(
                'misc/publish_model', folder / 'trained/epoch_1.pth', published, '--no-hash'
            )
        return published

    @functools.cached_property
    def scores(self) -> Any:
        return self.predicted(self.clean)

    def case(self, turn: int) -> Case:
        kinds = (*KINDS, *OF_RECORDS, *OF_CONFIGS, *OTHERS)
        damage = kinds[turn % len(kinds)]
        path = self.spoil(self.world.fresh(), damage)
        config = None
        if damage not in OF_CONFIGS and self.world.random.random() < 0.5:
            config = self.clean.parent / 'task.py'
        run = functools.partial(self.compare, path, config)
        return Case('task files', damage, (path.name,), run)

    def spoil(self, folder: Path, damage: str) -> Path:
        rng, checkpoint = self.world.random, load_from_local(str(self.clean))
        weights = dict(checkpoint['state_dict'])
        meta = {name: checkpoint['meta'][name] for name in ('cfg', 'dataset_meta')}
        name = record_name(weights) or ''
        path = folder / 'broken.pth'
        record = json.loads(bytes(weights[name].tolist()))
        if damage in OF_RECORDS:
            record = copy.deepcopy(record)
            OF_RECORDS[damage](record, rng)
            weights[name] = as_tensor(json.dumps(record).encode())
        elif damage == 'record: no JSON':
            weights[name] = as_tensor(not_json(json.dumps(record).encode(), rng))
        elif damage == 'record: another tensor':
            weights[name] = other_numbers(weights[name], rng)
        elif damage in OF_CONFIGS:
            meta['cfg'] = OF_CONFIGS[damage](meta['cfg'], rng)
        elif damage == 'classes: another number':
            meta['dataset_meta'] = dict(classes=['a'] * rng.choice([1, 3, 100]))
        elif damage == 'base changed':
            record['init_cfg'][0]['checkpoint'] = str(self.changed_base(folder))
            weights[name] = as_tensor(json.dumps(record).encode())
        else:
            written, suffix = damaged(weights, meta, damage, rng)
            path = path.with_suffix(suffix)
            path.write_bytes(written)
            return path
        suffix = rng.choice(['.pth', '.safetensors'])
        path = path.with_suffix(suffix)
        path.write_bytes(content(weights, meta, suffix))
        return path

    def changed_base(self, folder: Path) -> Path:
        base = torch.load(self.clean.parent / 'base.pth')['state_dict']
        change = OF_TENSORS[self.world.random.choice([*OF_TENSORS])]
        path = folder / 'broken_base.pth'
        torch.save(dict(state_dict=change(base, self.world.random)), path)
        return path

    def compare(self, path: Path, config: Path | None) -> None:
        found = self.predicted(path, config)
        if not np.array_equal(found, self.scores):
            raise WrongResultError('other scores than those of the clean file')

    def predicted(self, path: Path, config: Path | None = None) -> Any:
        """Scores of some images."""
        predictor = load(config or path, path if config else None, device='cpu')
        results = predictor.predict(self.world.images / 'val', progress=False)
        return np.stack([result.scores for result in results])


def as_tensor(content: bytes) -> torch.Tensor:
    return torch.tensor(list(content), dtype=torch.uint8)
