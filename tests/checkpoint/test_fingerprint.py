import hashlib
import struct

import pytest
import torch

from toast_mm.checkpoint.fingerprint import fingerprint

TENSORS = {
    'weight': torch.tensor([[1.0, -2.0, 0.5], [0.25, 3.0, 0.0]]),
    'bias': torch.tensor([1.5, -4.0]),
    'steps': torch.tensor(3),
}


def test_is_the_hash_of_names_shapes_and_values():
    """In the order of the names: files of other versions and machines must agree."""
    content = [
        *(b'bias(2,)', struct.pack('<2f', 1.5, -4)),
        *(b'steps()', struct.pack('<f', 3)),
        *(b'weight(2, 3)', struct.pack('<6f', 1, -2, 0.5, 0.25, 3, 0)),
    ]
    assert fingerprint(TENSORS) == hashlib.sha256(b''.join(content)).hexdigest()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_precision_in_memory_does_not_matter(dtype):
    assert fingerprint({k: v.to(dtype) for k, v in TENSORS.items()}) == fingerprint(TENSORS)


def test_order_layout_and_gradients_do_not_matter():
    other = {
        'steps': TENSORS['steps'],
        'bias': torch.nn.Parameter(TENSORS['bias']),
        'weight': TENSORS['weight'].t().contiguous().t(),
    }
    assert not other['weight'].is_contiguous()
    assert fingerprint(other) == fingerprint(TENSORS)


@pytest.mark.parametrize(
    'change',
    [
        dict(bias=torch.tensor([1.5, torch.nextafter(torch.tensor(-4.0), torch.tensor(0.0))])),
        dict(bias=torch.tensor([-4.0, 1.5])),
        dict(weight=TENSORS['weight'].reshape(3, 2)),
        dict(more=torch.zeros(0)),
    ],
    ids=['one bit', 'order of values', 'shape', 'name'],
)
def test_everything_else_matters(change):
    assert fingerprint({**TENSORS, **change}) != fingerprint(TENSORS)


def test_a_name_more_or_less_matters():
    less = {name: tensor for name, tensor in TENSORS.items() if name != 'bias'}
    assert fingerprint(less) != fingerprint(TENSORS)
    assert fingerprint({**less, 'bias2': TENSORS['bias']}) != fingerprint(TENSORS)
