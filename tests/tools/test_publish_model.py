"""tools/misc/publish_model.py: the weights and the names of the classes, and nothing else."""

import hashlib

import pytest
import torch
from safetensors import safe_open

from toast_mm.checkpoint import CheckpointError, load_from_local
from toast_mm.checkpoint.adapter import frozen_base, leave_out_base, make_record
from toast_mm.config_text import read_settings
from toast_mm.models import TOASTViT

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
    said = capsys.readouterr().out
    assert f'{file}: 2 tensors, 0.00 MiB, without config' in said and 'no model' in said
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


def test_the_config_of_inference_is_kept(tool, trained, tmp_path, capsys):
    """Without the places of files and without what only a training needs."""
    model = dict(type='A', init_cfg=dict(checkpoint='b'), backbone=dict(depth=2, pretuned='/c.pth'))
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackInputs')]
    data = dict(batch_size=3, dataset=dict(data_root='/home/me', pipeline=steps))
    content = torch.load(trained)
    content['meta']['cfg'] = f'model = {model}\ntest_dataloader = {data}\nwork_dir = "/home/me"\n'
    torch.save(content, trained)
    tool('misc/publish_model', trained, tmp_path / 'one.safetensors', '--no-hash')
    tool(
        'misc/publish_model',
        tmp_path / 'one.safetensors',
        tmp_path / 'two.safetensors',
        '--no-hash',
    )
    assert capsys.readouterr().out.count('with the config of inference') == 2
    for name in ('one', 'two'):
        text = load_from_local(str(tmp_path / f'{name}.safetensors'))['meta']['cfg']
        assert read_settings(text) == dict(
            model=dict(type='A', backbone=dict(depth=2)),
            test_dataloader=dict(dataset=dict(pipeline=[steps[0], steps[2]])),
        )


def test_weights_that_come_with_the_package(tool, tmp_path):
    """They are not a path; an old file of this name is replaced with --overwrite."""
    target = tmp_path / 'base.safetensors'
    target.write_bytes(b'former')
    source = 'toast_mm://vit-1m_tinyin100.safetensors'
    tool('misc/publish_model', source, target, '--no-hash', '--overwrite')
    assert 'backbone.pos_embed' in load_from_local(str(target))['state_dict']


def test_another_release_of_the_name_stays(tool, trained, tmp_path):
    other = tmp_path / 'birds.safetensors'
    other.write_bytes(b'an earlier release')
    tool('misc/publish_model', trained, other)
    assert other.read_bytes() == b'an earlier release'
    assert len(list(tmp_path.glob('birds-*.safetensors'))) == 1


def test_a_task_file_gets_the_new_place_of_its_base(tool, tmp_path, capsys):
    sizes = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    backbone = TOASTViT(arch=sizes, img_size=16, patch_size=8)
    torch.nn.init.normal_(backbone.pos_embed)
    torch.save(backbone.state_dict(), tmp_path / 'base.pth')
    backbone.pretrained = [dict(type='Pretrained', checkpoint='former.pth')]
    weights = dict(backbone.state_dict())
    names = frozen_base(backbone)
    leave_out_base(weights, names, make_record(backbone, names), '')
    torch.save(dict(state_dict=weights), tmp_path / 'task.pth')
    source, base = tmp_path / 'task.pth', str(tmp_path / 'base.pth')
    tool('misc/publish_model', source, tmp_path / 'out.safetensors', '--no-hash', '--base', base)
    assert f'It needs its base: {base}, or the files' in capsys.readouterr().out
    other = TOASTViT(arch=sizes, img_size=16, patch_size=8)
    other.load_state_dict(load_from_local(str(tmp_path / 'out.safetensors'))['state_dict'])
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    tool('misc/publish_model', source, tmp_path / 'half.safetensors', '--no-hash', '--half')
    halves = load_from_local(str(tmp_path / 'half.safetensors'))['state_dict']
    assert torch.equal(halves['pos_embed'], backbone.pos_embed)  # as all tasks on this base
    assert halves['topdown.selection.task_embedding'].dtype == torch.float16
    with pytest.raises(CheckpointError, match=r'former\.pth does not exist; name it by'):
        TOASTViT(arch=sizes, img_size=16, patch_size=8).load_state_dict(weights)
    with pytest.raises(SystemExit, match='leaves out no pre-tuned module'):
        tool('misc/publish_model', source, tmp_path / 'out.safetensors', '--pretuned', 'x.pth')


def test_mistakes(tool, trained, tmp_path, capsys):
    with pytest.raises(SystemExit):
        tool('misc/publish_model', trained, tmp_path / 'out.pth')
    assert 'out.pth must end in .safetensors' in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r'checkpoint gone\.pth does not exist'):
        tool('misc/publish_model', 'gone.pth', tmp_path / 'out.safetensors')
    with pytest.raises(SystemExit, match=r'nowhere/out-\w+\.safetensors cannot be written'):
        tool('misc/publish_model', trained, tmp_path / 'nowhere' / 'out.safetensors')
    with pytest.raises(SystemExit, match=r'epoch_3\.pth is not a task file'):
        tool('misc/publish_model', trained, tmp_path / 'out.safetensors', '--base', 'base.pth')
    released = tmp_path / 'released.safetensors'
    tool('misc/publish_model', trained, released, '--no-hash')
    with pytest.raises(SystemExit, match=r'released\.safetensors would replace .*released\.safe'):
        tool('misc/publish_model', released, released, '--half', '--no-hash', '--overwrite')
