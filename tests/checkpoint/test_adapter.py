"""Records of adapter files, of this version and older ones, complete and damaged."""

import json

import pytest
import torch

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.adapter import read_record


def record(content: bytes) -> torch.Tensor:
    return torch.tensor(list(content), dtype=torch.uint8)


WHOLE = dict(
    fingerprint='f',
    method='TOAST',
    signature={'out_indices': [3]},
    route=None,
    as_in_the_base=[],
    init_cfg=[],
    pretuned=None,
)


def test_whole():
    assert read_record(record(json.dumps(WHOLE).encode())) == WHOLE


@pytest.mark.parametrize(
    ('before', 'now'),
    [('a head alone', 'linear probe'), ('TOAST', 'TOAST'), ('TOAST with LoRA', 'TOAST with LoRA')],
)
def test_older_task_files_mean_the_same(before, now):
    old = {name: value for name, value in WHOLE.items() if name not in ('signature', 'route')}
    old |= dict(form={'out_indices': [3]}, method=before)
    assert read_record(record(json.dumps(old).encode())) == dict(WHOLE, method=now)


@pytest.mark.parametrize(
    'content, reason',
    [
        (
            json.dumps({k: v for k, v in WHOLE.items() if k != 'fingerprint'}),
            'key(s): "fingerprint"',
        ),
        (
            json.dumps({**WHOLE, 'fingerprint': 3}),
            "key 'fingerprint' of dict is not an instance of str",
        ),
        (json.dumps({**WHOLE, 'init_cfg': ['a']}), "item 0 of value of key 'init_cfg'"),
        (json.dumps({**WHOLE, 'as_in_the_base': 5}), "key 'as_in_the_base' of dict is not a list"),
        (json.dumps([1]), 'is missing required key(s)'),
        (json.dumps(5), "'int' is not iterable"),
        (json.dumps(WHOLE)[:-5], 'Expecting value'),
        ('', 'Expecting value'),
        ('\xff', 'decode'),
    ],
)
def test_damaged(content, reason):
    with pytest.raises(CheckpointError, match='the record of the task file is damaged') as error:
        read_record(record(content.encode('latin1')))
    assert reason in str(error.value)
