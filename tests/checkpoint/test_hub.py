"""Files of the Hugging Face Hub by ``hf://``: what is read, what is refused, and what is pinned."""

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError
from mmengine.runner import CheckpointLoader
from safetensors.torch import save

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.adapter import (
    RECORD,
    frozen_base,
    leave_out_base,
    make_record,
    read_record,
)
from toast_mm.checkpoint.hub import pinned, unpinned
from toast_mm.checkpoint.pretuned import save_pretuned
from toast_mm.models import TOASTViT

OLD, NEW = '0' * 40, '1'.zfill(40)
ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
SIZES = dict(arch=ARCH, img_size=16, patch_size=8)


def value(name):
    loaded = CheckpointLoader.load_checkpoint(name, map_location='cpu')
    return loaded['state_dict']['weight'].item()


def tensors(number):
    return save(dict(weight=torch.tensor(float(number))))


@pytest.mark.parametrize(
    ('name', 'number', 'commit'),
    [
        ('hf://me/net', 2, f'hf://me/net@{NEW}'),
        ('hf://me/net@main', 2, f'hf://me/net@{NEW}'),
        (f'hf://me/net@{OLD}', 1, f'hf://me/net@{OLD}'),
        ('hf://me/net/model.safetensors', 2, f'hf://me/net@{NEW}'),
        ('hf://me/net/part/a.safetensors', 3, f'hf://me/net@{NEW}/part/a.safetensors'),
        (f'hf://me/net@{NEW}/part/a.safetensors', 3, f'hf://me/net@{NEW}/part/a.safetensors'),
    ],
)
def test_names(hub, name, number, commit):
    assert hub.add('me/net', model=tensors(1)) == OLD
    assert hub.add('me/net', **{'model': tensors(2), 'part/a': tensors(3)}) == NEW
    assert pinned(name) == name
    assert value(name) == number
    assert pinned(name) == commit
    hub.files.clear()
    asked = len(hub.requests)
    assert value(commit) == number
    assert len(hub.requests) == asked


def test_a_cached_file_is_read_without_the_hub(hub, monkeypatch):
    hub.add('me/net', model=tensors(1))
    assert value('hf://me/net') == 1
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert value('hf://me/net') == 1


@pytest.mark.parametrize(
    ('name', 'plain'),
    [
        (f'hf://me/net@{OLD}', 'hf://me/net'),
        (f'hf://me/net@{OLD}/a.safetensors', 'hf://me/net/a.safetensors'),
        ('hf://me/net@v1', 'hf://me/net@v1'),
        (f'/data/net@{OLD}', f'/data/net@{OLD}'),
    ],
)
def test_unpinned(name, plain):
    assert unpinned(name) == plain


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('hf://net', '{name} has not the form hf://owner/name[@revision][/file.safetensors]'),
        (
            'hf://me/net/pytorch_model.bin',
            '{name} is refused: only .safetensors files are read from the Hugging Face Hub',
        ),
        (
            'hf://me/none',
            '{name} cannot be downloaded: there is no repository {hub}/me/none, or it is private '
            'and needs a HF_TOKEN',
        ),
        ('hf://me/net@v1', '{name} cannot be downloaded: {hub}/me/net has no revision v1'),
        (
            'hf://me/net',
            '{name} cannot be downloaded: {hub}/me/net has no model.safetensors, but '
            'a.safetensors, b.safetensors: name one behind a slash',
        ),
        (
            'hf://me/pickles',
            '{name} cannot be downloaded: {hub}/me/pickles has no model.safetensors and no other '
            'safetensors file (pytorch_model.bin would run code): save its weights as safetensors',
        ),
        (
            'hf://me/gated',
            '{name} is gated: ask for access at {hub}/me/gated, and log in by `hf auth login` or '
            'set HF_TOKEN',
        ),
    ],
)
def test_refusals(hub, name, message):
    hub.add('me/net', a=b'', b=b'')
    hub.files['me/pickles'] = {OLD: {'pytorch_model.bin': b'', 'README.md': b''}}
    hub.refusals['me/gated'] = 'GatedRepo'
    with pytest.raises(CheckpointError) as error:
        value(name)
    assert str(error.value) == 'checkpoint ' + message.format(name=name, hub=hub.address)


def test_a_file_that_is_not_cached_without_the_hub(hub, monkeypatch):
    def fail(*args, **kwargs):
        raise LocalEntryNotFoundError('Check your connection.') from ConnectionError('no route')

    monkeypatch.setattr('toast_mm.checkpoint.hub.hf_hub_download', fail)
    with pytest.raises(CheckpointError) as error:
        value('hf://me/net/part/a.safetensors')
    assert str(error.value) == (
        f'checkpoint hf://me/net/part/a.safetensors is not in the cache {constants.HF_HUB_CACHE}, '
        f'and {hub.address} cannot be reached (ConnectionError: no route): run `hf download me/net '
        'part/a.safetensors` where it can, and copy its folder of the cache to this one, or name a '
        'local copy of the file instead'
    )


def test_a_broken_file(hub):
    hub.add('me/net', model=b'no tensors')
    with pytest.raises(CheckpointError, match=r'model\.safetensors is truncated or no checkpoint'):
        value('hf://me/net')


def backbone(seed=0, **arguments):
    torch.manual_seed(seed)
    made = TOASTViT(**SIZES, feedback_from='middle', **arguments)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def content(weights, beginning=''):
    return save({n: t.clone() for n, t in weights.items() if n.startswith(beginning)})


def base_of(made):
    return {n: t for n, t in made.state_dict().items() if not n.startswith('topdown.')}


def task_file(made):
    names = frozen_base(made)
    weights = dict(made.state_dict())
    record = make_record(made, names)
    leave_out_base(weights, names, record, '')
    return weights, read_record(record)


@pytest.mark.parametrize('named', [True, False], ids=['config names the base', 'file names it'])
def test_a_task_file_finds_the_commit_that_it_was_tuned_on(hub, named):
    """The default branch has moved on to other weights in between."""
    init_cfg = dict(type='Pretrained', checkpoint='hf://me/net')
    tuned = backbone(init_cfg=init_cfg)
    hub.add('me/net', model=content(base_of(tuned)))
    tuned.init_weights()
    weights, record = task_file(tuned)
    assert record['init_cfg'] == [dict(type='Pretrained', checkpoint=f'hf://me/net@{OLD}')]

    hub.add('me/net', model=content({n: t + 1 for n, t in base_of(tuned).items()}))
    loaded = backbone(seed=1, init_cfg=init_cfg if named else None)
    loaded.init_weights()
    loaded.load_state_dict(weights)
    assert all(map(torch.equal, loaded.state_dict().values(), tuned.state_dict().values()))


def test_a_task_file_on_another_base_that_a_config_names(hub):
    tuned = backbone(init_cfg=dict(type='Pretrained', checkpoint='hf://me/net'))
    hub.add('me/net', model=content(base_of(tuned)))
    tuned.init_weights()
    weights, _ = task_file(tuned)
    hub.add('me/other', model=content({n: t + 1 for n, t in base_of(tuned).items()}))
    init_cfg = dict(type='Pretrained', checkpoint='hf://me/other')
    loaded = backbone(seed=1, init_cfg=init_cfg)
    with pytest.raises(CheckpointError, match=r'but hf://me/other has .*; name the base'):
        loaded.load_state_dict(weights)


def test_a_pretuned_module_of_the_hub(hub, tmp_path):
    """TOAST-Lite leaves its feedback path to that module, which has moved on in between."""
    source = backbone()
    save_pretuned(source, str(tmp_path / 'module.safetensors'))
    module = (tmp_path / 'module.safetensors').read_bytes()
    hub.add('me/net', model=content(base_of(source)))
    hub.add('me/module', model=module)
    settings = dict(
        init_cfg=dict(type='Pretrained', checkpoint='hf://me/net'),
        pretuned='hf://me/module',
        lite=dict(rank=2),
    )
    tuned = backbone(**settings)
    tuned.init_weights()
    weights, record = task_file(tuned)
    assert record['pretuned'] == f'hf://me/module@{OLD}'
    assert RECORD in weights and not any('topdown.feedback.blocks' in name for name in weights)

    hub.add('me/module', model=b'no tensors')
    loaded = backbone(seed=1, **settings)
    loaded.load_state_dict(weights)
    assert all(map(torch.equal, loaded.state_dict().values(), tuned.state_dict().values()))
