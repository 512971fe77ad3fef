"""tools/visualization/attention.py on the jobs of the quickstart."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from digits_files import make_digits
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from toast_mm.visualization import draw_picture

ROOT = Path(__file__).parents[2]
SIZES = dict(scenes=dict(train=1, val=2, test=8), cued=dict(train=10, val=10, test=20))


def config(method: str, data: str) -> Path:
    (path,) = (ROOT / 'configs/quickstart').glob(f'{method}-*_digits-{data}-*.py')
    return path


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(root, SIZES)
    return root


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """Untrained models of the jobs, as training saves them."""
    paths = {}
    for method, kind, scope in (
        ('toast', 'scenes', 'mmseg'),
        ('toast', 'cued', 'mmpretrain'),
        ('linear', 'cued', 'mmpretrain'),
    ):
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(scope):
            model = MODELS.build(Config.fromfile(config(method, kind)).model)
        paths[f'{method} {kind}'] = tmp_path_factory.mktemp('run') / f'{method}_{kind}.pth'
        torch.save({'state_dict': model.state_dict(), 'meta': {}}, paths[f'{method} {kind}'])
    return paths


@pytest.fixture
def attention(tool, data, checkpoints, monkeypatch, tmp_path):
    """Draw with one of the jobs: ``attention('toast scenes', '--samples', 3)``."""
    monkeypatch.chdir(tmp_path)

    def run(job: str, *arguments: object, checkpoint: object = None) -> None:
        method, kind = job.split()
        sub = {'scenes': ('scenes', 'scenes'), 'cued': ('cued/val', 'cued/test')}[kind]
        roots = [
            f'{split}_dataloader.dataset.data_root={data / folder}'
            for split, folder in zip(('val', 'test'), sub, strict=True)
        ]
        path = checkpoint or checkpoints[job]
        tool(
            *('visualization/attention', config(method, kind), path),
            *(*arguments, '--cfg-options', *roots),
        )

    return run


def height(path: str) -> int:
    with Image.open(path) as picture:
        return picture.height


def test_classifier(attention, tmp_path, capsys):
    attention('toast cued', '--samples', 3, '--out', 'three.png')
    assert 'three.png shows 0, 10, 19 of the test set' in capsys.readouterr().out  # evenly spread
    attention('toast cued', '--indices', 7, '--out', 'one.png')
    assert 'one.png shows 7 of the test set' in capsys.readouterr().out
    assert height('three.png') > 2 * height('one.png')


def test_segmentor_draws_its_labels_beside_the_image(attention, data):
    attention('toast scenes', '--indices', 0, '--out', 'picture.png')
    with Image.open('picture.png') as picture:
        pixels = {tuple(pixel) for pixel in np.array(picture.convert('RGB')).reshape(-1, 3)}
    with Image.open(data / 'scenes/SegmentationClass/test_0000.png') as mask:
        truth = np.array(mask)
        colours = np.array(mask.getpalette()).reshape(-1, 3)
    assert {tuple(colours[label]) for label in np.unique(truth)} <= pixels


@pytest.mark.parametrize(
    ('name', 'sizes', 'width'),
    [
        ('vit_small_patch16_dinov3', dict(embed_dim=32, depth=2, num_heads=2, img_size=64), 32),
        (
            'convnext_tiny',
            dict(depths=(1, 1, 1, 1), dims=(4, 6, 8, 12), out_type='avg_featmap'),
            12,
        ),
    ],
)
def test_models_of_timm(tool, data, tmp_path, monkeypatch, name, sizes, width):
    monkeypatch.chdir(tmp_path)
    backbone = dict(_delete_=True, type='toast_mm.TOASTTimm', model_name=name, **sizes)
    head = dict(_delete_=True, type='LinearClsHead', num_classes=10, in_channels=width)
    path = tmp_path / 'config.py'
    path.write_text(
        f"_base_ = '{config('toast', 'cued')}'\nmodel = dict(backbone={backbone}, head={head})\n"
        f"test_dataloader = dict(dataset=dict(data_root='{data / 'cued/test'}'))\n"
    )
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, 'checkpoint.pth')
    tool('visualization/attention', path, 'checkpoint.pth', '--indices', 1, '--out', 'one.png')
    assert height('one.png') > 100


@pytest.fixture
def drawn(monkeypatch):
    """Rows and options of every picture."""
    pictures = []

    def draw(rows, classes, palette, difference):
        pictures.append((rows, difference))
        return draw_picture(rows, classes, palette, difference)

    monkeypatch.setattr('toast_mm.visualization.draw_picture', draw)
    return pictures


def test_image_files_and_folders(attention, drawn, data, capsys):
    """Without labels. A folder is sampled evenly; a file in a row by itself is drawn, too."""
    path = next((data / 'cued/test/3').iterdir())
    attention('toast cued', path, data / 'cued/val', '--samples', 3, '--out', 'p.png')
    files = sorted(map(str, (data / 'cued/val').rglob('*.png')))
    expected = [str(path), files[4], files[9]]
    assert f'p.png shows {", ".join(expected)}' in capsys.readouterr().out
    ((rows, _),) = drawn
    assert [row.caption for row in rows] == [Path(name).name for name in expected]
    with Image.open(path) as image:
        assert np.array_equal(rows[0].views[0].image, np.array(image))
    assert all(re.fullmatch(r'predicted \d \(\d+%\)', row.views[0].caption) for row in rows)


def test_an_image_for_a_segmentor(attention, drawn, data):
    attention('toast scenes', data / 'scenes/JPEGImages/test_0000.jpg', '--out', 'p.png')
    (row,) = drawn[0][0]
    assert row.truth is None and row.views[0].labels.shape == (64, 64)


def test_blocks_heads_and_difference(attention, drawn):
    arguments = ('--indices', 2, '--blocks', 0, -1, '--heads', '--difference')
    attention('toast cued', *arguments, '--out', 'p.png')
    (((row,), difference),) = drawn
    (view,) = row.views
    heads = view.maps[5].first.shape[1]
    assert list(view.maps) == [0, 5] and heads > 1 and difference
    attention('toast cued', '--indices', 2, '--out', 'mean.png')
    mean = drawn[1][0][0].views[0].maps[5]
    torch.testing.assert_close(mean.first, view.maps[5].first.mean(1, keepdim=True))
    assert height('p.png') > heads * height('mean.png')


def test_other_models_beside_it(attention, drawn, checkpoints):
    """The other model sees the same image, and its maps are of the same block."""
    other = ('--compare', config('linear', 'cued'), checkpoints['linear cued'])
    attention('toast cued', *other, *other, '--blocks', 2, '--indices', 4, '--out', 'p.png')
    (((row,), _),) = drawn
    assert [view.method for view in row.views] == ['TOAST', 'linear probe', 'linear probe']
    assert row.caption in set('0123456789')
    toast, linear, _ = row.views
    assert linear.maps.keys() == toast.maps.keys() == {2} and linear.maps[2].mask is None
    assert np.array_equal(linear.image, toast.image)
    torch.testing.assert_close(linear.maps[2].first, toast.maps[2].first)  # one frozen backbone


def test_default_is_six_samples_in_the_work_dir(attention, capsys):
    attention('toast scenes', '--split', 'val')
    path = f'work_dirs/{config("toast", "scenes").stem}/attention.png'
    assert f'{path} shows 0, 1 of the val set' in capsys.readouterr().out
    assert Path(path).is_file()


@pytest.mark.parametrize(
    ('job', 'arguments', 'sentence'),
    [
        (
            'toast cued',
            ['--indices', '3', '20'],
            r'--indices 20: the test set has .* 0\.\.19',
        ),
        ('toast cued', ['--indices', '-1'], r'--indices -1: the test set has 20'),
        ('toast cued', ['--blocks', '6'], r'blocks=\[6\] must name blocks .* 0\.\.5'),
        ('toast cued', ['nowhere.png'], r'nowhere\.png: there is no such image or folder'),
        ('toast cued', ['--heads', '--blocks', *map(str, range(6))], r'lines cannot be read'),
    ],
)
def test_wrong_samples_and_blocks(attention, job, arguments, sentence):
    with pytest.raises(SystemExit, match=sentence):
        attention(job, *arguments)


def test_no_test_set(tool, checkpoints, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(f"_base_ = '{config('toast', 'cued')}'\ntest_dataloader = None\n")
    with pytest.raises(SystemExit, match=r'the config has no test_dataloader'):
        tool('visualization/attention', path, checkpoints['toast cued'])


def test_a_checkpoint_of_another_job(attention, checkpoints):
    with pytest.raises(
        SystemExit, match=r'toast_cued\.pth does not fit the config: .*unexpected key'
    ):
        attention('toast scenes', checkpoint=checkpoints['toast cued'])


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['nowhere.pth'], 'checkpoint nowhere.pth does not exist'),
        ([__file__, '--out', 'picture.jpg'], '--out picture.jpg must end with .png'),
        ([__file__, '--samples', '0'], '--samples 0 must be at least 1'),
        ([__file__, 'image.png', '--indices', '1'], '--indices are numbers in the data set'),
        ([__file__, '--compare', __file__, 'none.pth'], 'checkpoint none.pth does not exist'),
    ],
)
def test_arguments(tool, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as exit_:
        tool('visualization/attention', config('toast', 'cued'), *arguments)
    assert exit_.value.code == 2
    assert sentence in capsys.readouterr().err
