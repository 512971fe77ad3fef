"""Bad input ends in a sentence that names the file or argument and what would be right."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import start, tiny_ade20k
from PIL import Image

from toast_mm.engine.config import ConfigError
from toast_mm.models import TOASTViT

CONFIG = 'configs/ade20k_toast_upernet.py'
ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])


@pytest.fixture
def train(tool, ade20k, tmp_path):
    """Train with some settings exchanged."""

    def run(*arguments: str, data_root: Path = ade20k, **changes: str) -> None:
        changes = {key.replace('__', '.'): value for key, value in changes.items()}
        options = tiny_ade20k(data_root, **changes)
        tool('train', CONFIG, '--work-dir', tmp_path / 'work', *arguments, *options)

    yield run
    assert not list((tmp_path / 'work').glob('*.pth'))  # no checkpoint that --resume would use


@pytest.fixture
def base(tmp_path) -> dict:
    """Weights of a fitting backbone, as mmpretrain would save them."""
    backbone = TOASTViT(arch=ARCH, img_size=32, patch_size=8, feedback_from=None)
    return {f'backbone.{name}': tensor for name, tensor in backbone.state_dict().items()}


def init_cfg(path: Path, state_dict: dict | None = None) -> dict[str, str | None]:
    """Settings that take base weights from a file, which is written first if there are any."""
    if state_dict is not None:
        torch.save({'state_dict': state_dict}, path)
    return {
        'model__backbone__init_cfg': None,
        'model__backbone__init_cfg__checkpoint': str(path),
    }


@pytest.mark.parametrize(
    'changes, sentence',
    [
        (dict(feedback_from='9'), r'feedback_from=9 reads after 9 blocks.*1\.\.4'),
        (dict(feedback_from='0'), r'feedback_from=0 .*1\.\.4'),
        (dict(feedback_from='top'), r"feedback_from='top' is neither.*'middle', 'last'"),
        (dict(feedback_from='2', feedback_to='3'), r'feedback_to=3 .*before the read-out: 0\.\.1'),
        (dict(out_indices='0,1,2,9'), r'out_indices=.* must name blocks.*0\.\.3'),
    ],
)
def test_route(train, changes, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        train(**{f'model__backbone__{key}': value for key, value in changes.items()})


def test_unknown_arch(train):
    changes = {f'model__backbone__arch__{key}': None for key in ('_delete_', *ARCH)}
    with pytest.raises(
        ConfigError, match=r'backbone .*vit-enormous is not in default .*deit-small'
    ):
        train(**changes, model__backbone__arch='vit-enormous')


def test_missing_base_weights(train, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth does not exist'):
        train(**init_cfg(tmp_path / 'nowhere.pth'))


def test_truncated_base_weights(train, base, tmp_path):
    path = tmp_path / 'cut.pth'
    changes = init_cfg(path, base)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(SystemExit, match=r'cut\.pth is truncated'):
        train(**changes)


def test_base_weights_of_another_width(train, tmp_path):
    wide = TOASTViT(arch={**ARCH, 'embed_dims': 32}, img_size=32, patch_size=8, feedback_from=None)
    state = {f'backbone.{name}': tensor for name, tensor in wide.state_dict().items()}
    changes = init_cfg(tmp_path / 'wide.pth', state)
    with pytest.raises(
        SystemExit, match=r'wide\.pth.*cls_token \(1, 1, 32\) instead of \(1, 1, 16\)'
    ):
        train(**changes)


def test_incomplete_base_weights(train, base, tmp_path):
    del base['backbone.layers.2.attn.qkv.weight']
    changes = init_cfg(tmp_path / 'part.pth', base)
    with pytest.raises(SystemExit, match=r'part\.pth.*missing: layers\.2\.attn\.qkv\.weight'):
        train(**changes)


def test_empty_data_set(train, tmp_path):
    for part in ('images', 'annotations'):
        (tmp_path / 'empty' / part / 'training').mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r'data set is empty: ADE20KDataset.*/empty.*images/training'
    ):
        train(data_root=tmp_path / 'empty')


@pytest.fixture
def spoiled(ade20k, tmp_path):
    """Copy of the data set that a test spoils."""
    root = tmp_path / 'spoiled'
    shutil.copytree(ade20k, root)
    return root


def test_labels_outside_the_classes(train, spoiled):
    mask = np.full((48, 64), 151, dtype=np.uint8)
    for path in (spoiled / 'annotations/training').iterdir():
        Image.fromarray(mask).save(path)
    with pytest.raises(
        ValueError, match=r'ADE_\d+\.png: labels \[150\] are outside .*0\.\.149 or 255'
    ):
        train(data_root=spoiled)


@pytest.mark.parametrize(
    'part, suffix, sentence',
    [
        ('images', 'jpg', r'ADE_\d+\.jpg cannot be decoded as an image'),
        ('annotations', 'png', r'ADE_\d+\.png cannot be decoded as a mask'),
    ],
)
def test_undecodable_file(train, spoiled, part, suffix, sentence):
    for path in (spoiled / part / 'training').iterdir():
        path.write_text('no picture')
    with pytest.raises(ValueError, match=sentence):
        train(data_root=spoiled)


def test_missing_file(train, spoiled):
    for path in (spoiled / 'annotations/training').iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r'annotations/training/ADE_\d+\.png'):
        train(data_root=spoiled)


def test_pretuned_module_of_another_route(train, tmp_path):
    other = TOASTViT(arch=ARCH, img_size=32, patch_size=8, feedback_from='last')
    path = tmp_path / 'last.pth'
    torch.save(other.state_dict(), path)
    with pytest.raises(SystemExit, match=r'last\.pth.*another route.*layers\.2'):
        train(model__backbone__pretuned=str(path))


def test_classes_that_do_not_fit_the_head(train):
    with pytest.raises(
        ValueError, match=r'has 150 classes, but model\.decode_head\.num_classes is 7'
    ):
        train(model__decode_head__num_classes='7', model__auxiliary_head__num_classes='7')


def test_resuming_with_other_tuned_parameters(tool, ade20k, tmp_path):
    short = {'train_cfg.max_iters': '1'}
    arguments = ('train', CONFIG, '--work-dir', tmp_path, '--no-validate')
    tool(*arguments, *tiny_ade20k(ade20k, **short))
    other = {'train_cfg.max_iters': '2', 'model.backbone.token_selection': 'False'}
    with pytest.raises(SystemExit, match=r'iter_1\.pth is of a training that tuned other'):
        tool(*arguments, '--resume', *tiny_ade20k(ade20k, **other))


def test_testing_an_incomplete_checkpoint(tool, ade20k, base, tmp_path):
    path = tmp_path / 'headless.pth'
    torch.save(base, path)
    with pytest.raises(SystemExit, match=r'headless\.pth: .*missing keys.*decode_head') as error:
        tool('test', CONFIG, path, '--work-dir', tmp_path, *tiny_ade20k(ade20k))
    assert '\n' not in str(error.value)


def test_missing_config(tool):
    with pytest.raises(SystemExit, match=r'config file nowhere\.py does not exist'):
        tool('train', 'nowhere.py')


@pytest.mark.parametrize(
    'command, sentence',
    [
        (['train', CONFIG, '--resume', 'nowhere.pth'], 'checkpoint nowhere.pth does not exist'),
        (['test', CONFIG, 'nowhere.pth'], 'checkpoint nowhere.pth does not exist'),
        (['test', CONFIG, CONFIG, '--out', 'o.txt'], 'o.txt must end with .pkl'),
        (['test', CONFIG, CONFIG, '--out-item', 'pred'], '--out-item needs --out FILE'),
        (['train', CONFIG, '--check', '--cfg-options', 'a', 'b'], "'a' must be key=value"),
        (
            ['deployment/export_onnx', CONFIG, CONFIG, 'o.onnx', '--size', '0', '0'],
            '--size 0 0 must be a height and a width of pixels',
        ),
    ],
)
def test_arguments(tool, capsys, command, sentence):
    with pytest.raises(SystemExit) as exit_:
        tool(*command)
    assert exit_.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_the_last_line_of_a_command_is_the_error(ade20k, tmp_path):
    process = start(
        *('python', 'tools/train.py', CONFIG, '--work-dir', tmp_path),
        *tiny_ade20k(ade20k, **{'model.backbone.feedback_from': '9'}),
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert re.search(r'feedback_from=9 .*1\.\.4', output.strip().splitlines()[-1])


@pytest.mark.parametrize(
    ('arguments', 'changes', 'message'),
    [
        ([], dict(train_cfg__max_iters='many'), "train_cfg.max_iters='many' must be an integer"),
        ([], dict(default_hooks='3'), 'default_hooks=3 must be dict(...)'),
        (['--auto-scale-lr'], dict(auto_scale_lr='{}'), 'no auto_scale_lr.base_batch_size'),
        (['--resume', 'nowhere.pth'], {}, 'checkpoint nowhere.pth does not exist'),
    ],
)
def test_the_check_of_a_training_finds_what_it_would_not_begin_with(
    train, tmp_path, capsys, arguments, changes, message
):
    train('--check')
    with pytest.raises(SystemExit) as ended:
        train('--check', *arguments, **changes)
    assert message in f'{ended.value} {capsys.readouterr().err}'
    assert ended.value.code
    assert not (tmp_path / 'work').exists()
