"""tools/multi_task.py on two trained classifiers."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope


@pytest.fixture
def trained(classifier_job, tmp_path):
    """Two tasks on one base: files with whole models whose head always says the same."""
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


def test_mistakes(tool, trained, classifier_job, folders, tmp_path, capsys):
    image = next((folders / 'val' / 'class_0').iterdir())
    task = ['--task', 'birds', classifier_job, trained[0]]
    for arguments, message in (
        ([image, *task, *task], '--task birds is there twice'),
        (['nowhere.png', *task], 'image nowhere.png does not exist'),
        ([image, '--task', 'birds', 'nowhere.py', trained[0]], 'config file nowhere.py does not'),
        ([image, '--task', 'birds', classifier_job, 'no.pth'], 'checkpoint no.pth does not exist'),
    ):
        with pytest.raises(SystemExit):
            tool('multi_task', *arguments)
        assert message in capsys.readouterr().err
    (tmp_path / 'no.png').write_text('no image')
    with pytest.raises(SystemExit, match=r'no\.png is no image that the tasks can read'):
        tool('multi_task', tmp_path / 'no.png', *task)
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    with pytest.raises(SystemExit, match=r"task 'hours', .*empty\.pth: .*covers 0 of"):
        tool('multi_task', image, '--task', 'hours', classifier_job, tmp_path / 'empty.pth')
    other = tmp_path / 'other.py'
    other.write_text(classifier_job.read_text() + "\ntest_pipeline[1]['scale'] = 48\n")
    with pytest.raises(SystemExit, match="tasks 'birds' and 'hours' prepare images by other"):
        tool('multi_task', image, *task, '--task', 'hours', other, trained[1])
