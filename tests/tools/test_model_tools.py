"""tools/model_converters and tools/deployment: published checkpoint, test, fold, test, export."""

import pickle
import re
from pathlib import Path

import pytest
import torch

from toast_mm.models import TOASTViT


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
    tool('model_converters/fold', checkpoint, target)
    folded = results(tool, classifier_job, target, 'folded.pkl')
    assert len(plain) == len(folded) == 8
    for one, other in zip(plain, folded, strict=True):
        assert one['img_path'] == other['img_path']
        assert one['pred_score'].tolist() == pytest.approx(other['pred_score'].tolist(), abs=1e-6)

    with pytest.raises(SystemExit, match=f'{target}: it is folded already'):
        tool('model_converters/fold', target, 'twice.pth')
    assert not Path('twice.pth').exists()
    with pytest.raises(RuntimeError, match='folded for inference and cannot be trained'):
        tool('train', classifier_job, '--cfg-options', f'load_from={target}')


def published(**changes):
    """A tuned model as the published code saves it, of the size of the job."""
    torch.manual_seed(0)
    backbone = TOASTViT(
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8,
    )
    names = {
        r'topdown\.selection\.task_embedding': 'prompt',
        r'topdown\.selection\.channel_transform': 'top_down_transform',
        r'topdown\.feedback\.layers\.(\d)\.descend': r'decoders.\1.linear',
        r'topdown\.feedback\.layers\.(\d)\.emit': r'decoders.\1.linear2',
        r'patch_embed\.projection': 'patch_embed.proj',
        r'layers\.(\d)\.ln': r'blocks.\1.norm',
        r'layers\.(\d)\.attn': r'blocks.\1.attn',
        r'layers\.(\d)\.ffn\.layers\.0\.0': r'blocks.\1.mlp.fc1',
        r'layers\.(\d)\.ffn\.layers\.1': r'blocks.\1.mlp.fc2',
        'ln1': 'norm',
    }
    weights = {'head.last_layer.weight': torch.randn(2, 16), 'head.last_layer.bias': torch.zeros(2)}
    for name, tensor in backbone.state_dict().items():
        for ours, theirs in names.items():
            name, count = re.subn(f'^{ours}', theirs, name)
            if count:
                break
        weights[f'enc.{name}'] = torch.randn(tensor.shape) * 0.3
    weights |= changes
    return {'model_state_dict': {n: t for n, t in weights.items() if t is not None}, 'epoch': 3}


def test_published_checkpoint_is_tested_folded_and_tested(
    tool, classifier_job, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    torch.save(published(), 'published.pth')
    tool('model_converters/toast2mm', 'published.pth', 'toast.pth')
    report = capsys.readouterr().out
    assert 'TOAST on ViT: 38 mapped, 0 of them resized, 0 unused, 0 missing' in report
    assert "'embed_dims': 16, 'num_layers': 2, 'feedforward_channels': 32" in report
    assert 'mean=[123.675, 116.28, 103.53]' in report
    row = next(line for line in report.splitlines() if 'top_down_transform' in line)
    assert 'backbone.topdown.selection.channel_transform' in row and '(16, 16)' in row

    plain = results(tool, classifier_job, 'toast.pth', 'plain.pkl')
    tool('model_converters/fold', 'toast.pth', 'folded.pth')
    folded = results(tool, classifier_job, 'folded.pth', 'folded.pkl')
    assert len(plain) == len(folded) == 8
    assert [p['pred_label'] for p in plain] == [p['pred_label'] for p in folded]
    assert len({tuple(p['pred_score'].tolist()) for p in plain}) == 8
    for one, other in zip(plain, folded, strict=True):
        torch.testing.assert_close(one['pred_score'], other['pred_score'], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        ({'enc.prompt': None}, r'no published TOAST checkpoint'),
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


def test_bad_files(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('broken.npz').write_bytes(b'PK no')
    torch.save({'epoch': 3}, 'empty.pth')
    torch.save({'model': torch.nn.Linear(1, 1)}, 'pickled.pth')
    for source, complaint in (
        ('absent.pth', 'absent.pth does not exist'),
        ('absent.npz', 'absent.npz does not exist'),
        ('broken.npz', 'broken.npz is damaged or no npz file'),
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
    with pytest.raises(SystemExit, match='no ViT of timm, DeiT, JAX or Hugging Face'):
        tool('model_converters/vit2mm', 'convnext.pth', 'out.pth')
    with pytest.raises(SystemExit, match='no ConvNeXt'):
        tool('model_converters/convnext2mm', 'vit.pth', 'out.pth')


def test_onnx(tool, classifier_job, tmp_path, monkeypatch, capsys):
    import numpy as np
    import onnxruntime

    monkeypatch.chdir(tmp_path)
    torch.save(published(), 'published.pth')
    tool('model_converters/toast2mm', 'published.pth', 'toast.pth')
    capsys.readouterr()
    tool('deployment/export_onnx', classifier_job, 'toast.pth', 'toast.onnx', '--size', '32', '32')
    assert 'toast.onnx: ' in capsys.readouterr().out
    session = onnxruntime.InferenceSession('toast.onnx')
    scores = session.run(None, {'images': np.zeros((5, 3, 32, 32), np.float32)})[0]
    assert scores.shape == (5, 2)
    for wrong in (['absent.pth', 'out.onnx'], ['toast.pth', 'out.txt']):
        with pytest.raises(SystemExit):
            tool('deployment/export_onnx', classifier_job, *wrong, '--size', '32', '32')
