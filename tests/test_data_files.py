"""Plain data comes back as it was; everything else is refused."""

import datetime
import pickle
from collections import OrderedDict, defaultdict

import mmengine
import numpy as np
import pytest
import torch
import yaml
from canary import Canary
from mmengine.logging import HistoryBuffer

from toast_mm.checkpoint import trusted
from toast_mm.trust import UntrustedFileError

PLAIN = dict(
    values=[1, 2.5, 3j, True, None, 'a', b'b', bytearray(b'c')],
    containers=[(1,), {2}, frozenset([3]), OrderedDict(a=1), defaultdict(list, a=[1]), slice(1, 2)],
    day=datetime.date(2024, 5, 1),
    array=np.arange(6, dtype='f4').reshape(2, 3).T,
    number=np.float64(0.5),
    ragged=np.array([[1], [1, 2]], dtype=object),
)


def assert_same(one, other) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        assert one.tolist() == other.tolist()
    else:
        assert one == other


@pytest.mark.parametrize('protocol', range(6))
@pytest.mark.parametrize('core', [b'core', b'_core'])
def test_pickles_of_every_protocol(tmp_path, protocol, core):
    content = pickle.dumps(PLAIN, protocol=protocol)
    if protocol < 4:  # from there on, lengths stand before names
        content = content.replace(b'numpy._core.', b'numpy.%b.' % core)
    (tmp_path / 'a.pkl').write_bytes(content)
    assert_same(mmengine.load(tmp_path / 'a.pkl'), PLAIN)


def test_tensors_and_their_types(tmp_path):
    """Predictions of a test run."""
    saved = dict(labels=torch.arange(6).reshape(2, 3).T, type=torch.float16, size=torch.Size([1]))
    mmengine.dump([saved], tmp_path / 'a.pkl')
    (loaded,) = mmengine.load(tmp_path / 'a.pkl')
    assert torch.equal(loaded['labels'], saved['labels'])
    assert (loaded['type'], loaded['size']) == (torch.float16, torch.Size([1]))


def test_a_tensor_hides_no_pickle(tmp_path):
    """PyTorch unpickles the storage of a tensor by itself."""

    class Hidden:
        def __reduce__(self):
            content = tmp_path / 'content'
            torch.save(Canary(tmp_path / 'mark'), content, _use_new_zipfile_serialization=False)
            return torch.storage._load_from_bytes, (content.read_bytes(),)

    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(Hidden()))
    with pytest.raises(pickle.UnpicklingError):
        mmengine.load(tmp_path / 'a.pkl')
    assert not (tmp_path / 'mark').exists()


@pytest.mark.parametrize('content', [HistoryBuffer(), np.random.RandomState, eval, Canary('mark')])
def test_what_is_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    with open('a.pkl', 'wb') as file:
        pickle.dump([content], file)
    with pytest.raises(UntrustedFileError, match=r'^a\.pkl is refused: .* Save it as lists'):
        mmengine.load('a.pkl')
    with (
        open('a.pkl', 'rb') as file,
        pytest.raises(UntrustedFileError, match=r'^a\.pkl is refused'),
    ):
        mmengine.load(file, file_format='pkl')
    assert not (tmp_path / 'mark').exists()
    with trusted():
        assert len(mmengine.load('a.pkl')) == 1


def test_yaml(tmp_path):
    data = dict(a=[1, 2.5, None, 'x'], b=(1, (2, 3)), c=dict(d=True))
    mmengine.dump(data, tmp_path / 'a.yaml')
    assert mmengine.load(tmp_path / 'a.yaml') == data
    (tmp_path / 'a.yaml').write_text('a: !!python/name:os.system')
    with pytest.raises(UntrustedFileError, match=r'a\.yaml is refused: .*!!python/name:os\.system'):
        mmengine.load(tmp_path / 'a.yaml')
    (tmp_path / 'a.yaml').write_text('a: !mine 1')
    with pytest.raises(yaml.constructor.ConstructorError, match='!mine'):
        mmengine.load(tmp_path / 'a.yaml')


def test_a_given_loader_is_used(tmp_path):
    (tmp_path / 'a.yaml').write_text('a: !!python/name:math.sqrt')
    assert mmengine.load(tmp_path / 'a.yaml', Loader=yaml.UnsafeLoader)['a'](4) == 2
