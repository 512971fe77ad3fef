"""tools/multi_task.py on two trained classifiers, and on a segmentor."""

import numpy as np
import pytest
import torch
from commands import ROOT
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image


@pytest.fixture
def trained(classifier_job, tmp_path):
    """Two tasks on one base: complete models whose head has a constant prediction."""
    cfg = Config.fromfile(classifier_job)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    files = []
    for task, classes in enumerate((['crow', 'swan'], ['day', 'night'])):
        head = model.head.layers.head
        head.weight.data.zero_()
        head.bias.data = torch.tensor([2.0, 0.0] if task else [0.0, 2.0])
        files.append(tmp_path / f'{task}.pth')
        meta = dict(dataset_meta=dict(classes=classes))
        torch.save(dict(state_dict=model.state_dict(), meta=meta), files[-1])
    return files


def test_table(tool, trained, classifier_job, folders, capsys):
    images = sorted((folders / 'val' / 'class_0').iterdir())[:2]
    birds = ['--task', 'birds', classifier_job, trained[0]]
    hours = ['--task', 'hours', classifier_job, trained[1]]
    tool('multi_task', *images, *birds, *hours)
    printed = capsys.readouterr().out
    score = torch.tensor([2.0, 0.0]).softmax(0)[0]
    for image in images:
        (line,) = [line for line in printed.splitlines() if str(image) in line]
        cells = [cell.strip() for cell in line.split('|')[1:-1]]
        assert cells == [str(image), f'swan ({score:.2f})', f'day ({score:.2f})']


@pytest.fixture
def parts(tmp_path, folders, monkeypatch):
    """Arguments for one image and a segmentor that predicts 3 everywhere."""
    monkeypatch.chdir(tmp_path)
    (config,) = ROOT.glob('configs/quickstart/linear-*_digits-scenes-*.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(Config.fromfile(config).model)
    model.decode_head.conv_seg.weight.data.zero_()
    model.decode_head.conv_seg.bias.data = torch.eye(11)[3]
    torch.save(dict(state_dict=model.state_dict()), 'parts.pth')
    image = folders / 'val' / 'class_0' / '0_1.png'
    return [image, '--task', 'parts', config, 'parts.pth', '--out-dir', 'out']


def test_label_maps(tool, parts, tmp_path, capsys):
    label_map = tmp_path / 'out' / 'parts' / '0000_0_1.png'
    tool('multi_task', *parts)
    assert '3 100%' in capsys.readouterr().out
    assert (np.array(Image.open(label_map)) == 3).all()
    label_map.write_text('mine')
    with pytest.raises(SystemExit, match=r'0000_0_1\.png exists already: .* --overwrite'):
        tool('multi_task', *parts)
    assert label_map.read_text() == 'mine'
    tool('multi_task', *parts, '--overwrite')
    assert (np.array(Image.open(label_map)) == 3).all()
    label_map.unlink()
    label_map.symlink_to(parts[0])
    with pytest.raises(SystemExit, match=r'0000_0_1\.png would replace .*, which is read'):
        tool('multi_task', *parts, '--overwrite')


def test_a_label_map_on_a_full_disk(tool, parts, full_disk, tmp_path):
    full_disk('0000_*')
    with pytest.raises(SystemExit, match=r'^out/parts/0000_0_1\.png cannot be written: .*No space'):
        tool('multi_task', *parts)
    assert not list((tmp_path / 'out' / 'parts').iterdir())


def test_mistakes(tool, trained, classifier_job, folders, tmp_path, capsys):
    image = next((folders / 'val' / 'class_0').iterdir())
    task = ['--task', 'birds', classifier_job, trained[0]]
    for arguments, message in (
        ([image, *task, *task], '--task birds is given twice'),
        (['nowhere.png', *task], 'image nowhere.png does not exist'),
        ([image, '--task', 'birds', 'nowhere.py', trained[0]], 'config file nowhere.py does not'),
        ([image, '--task', 'birds', classifier_job, 'no.pth'], 'checkpoint no.pth does not exist'),
    ):
        with pytest.raises(SystemExit):
            tool('multi_task', *arguments)
        assert message in capsys.readouterr().err
    (tmp_path / 'no.png').write_text('no image')
    with pytest.raises(SystemExit, match=r'no\.png cannot be decoded as an image'):
        tool('multi_task', tmp_path / 'no.png', *task)
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    with pytest.raises(SystemExit, match=r"task 'hours': .*empty\.pth .*covers 0 of"):
        tool('multi_task', image, '--task', 'hours', classifier_job, tmp_path / 'empty.pth')


def test_tasks_that_prepare_images_differently(tool, trained, classifier_job, folders, capsys):
    image = next((folders / 'val' / 'class_0').iterdir())
    other = classifier_job.with_name('other.py')
    other.write_text(classifier_job.read_text() + "\ntest_pipeline[1]['scale'] = 24\n")
    tool(
        *('multi_task', image, '--task', 'birds', classifier_job, trained[0]),
        *('--task', 'hours', other, trained[1]),
    )
    assert '| swan (0.88) | day (0.88) |' in capsys.readouterr().out
