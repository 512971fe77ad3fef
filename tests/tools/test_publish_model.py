"""tools/misc/publish_model.py: the weights and the names of the classes, and nothing else."""

import hashlib

import pytest
import torch
from safetensors import safe_open

from toast_mm.checkpoint import load_from_local

WEIGHTS = {'head.weight': torch.tensor([[0.1, 2.0]]), 'backbone.count': torch.tensor([3])}


@pytest.fixture
def trained(tmp_path):
    path = tmp_path / 'epoch_3.pth'
    meta = dict(dataset_meta=dict(classes=['a', 'b'], palette=[[1, 2, 3]]), seed=3, cfg='x = 1')
    torch.save(dict(state_dict=WEIGHTS, meta=meta, optimizer=dict(state={})), path)
    return path


def test_release_form(tool, trained, tmp_path, capsys):
    tool('misc/publish_model', trained, tmp_path / 'birds.safetensors', '--half')
    (file,) = tmp_path.glob('birds*.safetensors')
    assert file.stem == f'birds-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}'
    assert f'{file}: 2 tensors, 0.00 MiB' in capsys.readouterr().out
    content = load_from_local(str(file))
    assert content['meta'] == dict(dataset_meta=dict(classes=['a', 'b'], palette=[[1, 2, 3]]))
    assert content['state_dict']['head.weight'].dtype == torch.float16
    assert torch.equal(content['state_dict']['head.weight'], WEIGHTS['head.weight'].half())
    assert torch.equal(content['state_dict']['backbone.count'], WEIGHTS['backbone.count'])


def test_published_once_more_it_keeps_its_metadata(tool, trained, tmp_path):
    first, second = tmp_path / 'first.safetensors', tmp_path / 'second.safetensors'
    tool('misc/publish_model', trained, first, '--no-hash')
    tool('misc/publish_model', first, second, '--no-hash')
    with safe_open(first, 'pt') as one, safe_open(second, 'pt') as other:
        assert one.metadata() == other.metadata()
        assert torch.equal(other.get_tensor('head.weight'), WEIGHTS['head.weight'])


def test_mistakes(tool, trained, tmp_path, capsys):
    with pytest.raises(SystemExit):
        tool('misc/publish_model', trained, tmp_path / 'out.pth')
    assert 'out.pth must end in .safetensors' in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r'checkpoint gone\.pth does not exist'):
        tool('misc/publish_model', 'gone.pth', tmp_path / 'out.safetensors')
    with pytest.raises(SystemExit, match=r'nowhere/out\.safetensors cannot be written'):
        tool('misc/publish_model', trained, tmp_path / 'nowhere' / 'out.safetensors')
