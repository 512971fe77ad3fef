"""tools/misc/print_config.py on configs and checkpoints."""

import pytest
import torch
from mmengine.config import Config


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'parent.py').write_text('a = dict(x=1, y=[1, 2])\nb = "text"\n')
    (tmp_path / 'job.py').write_text("_base_ = 'parent.py'\na = dict(x=2)\n")


def test_printed_config_is_the_config_of_the_run(tool, tmp_path, capsys):
    tool('misc/print_config', 'job.py', '--cfg-options', 'a.z=3', '--out', 'whole.py')
    out = capsys.readouterr().out
    assert out == (tmp_path / 'whole.py').read_text()
    expected = dict(a=dict(x=2, y=[1, 2], z=3), b='text')
    assert Config.fromfile('whole.py').to_dict() == expected


def test_the_config_of_a_checkpoint_is_not_run(tool, tmp_path, capsys):
    text = 'open("run", "w")\na = 1\n'
    torch.save({'state_dict': {}, 'meta': {'cfg': text}}, 'epoch_1.pth')
    tool('misc/print_config', 'epoch_1.pth', '--out', 'run.py')
    assert capsys.readouterr().out == (tmp_path / 'run.py').read_text() == text
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ('nowhere.py', 'config file nowhere.py does not exist'),
        ('nowhere.pth', 'nowhere.pth does not exist'),
        ('bare.pth', 'bare.pth holds no config: name the config'),
        ('job.py --cfg-options b.c=1', 'b.c=1 does not fit the config'),
        ('job.py --out parent.py', r'parent\.py exists already: choose another path, or add'),
        ('job.py --out job.py --overwrite', r'job\.py would replace job\.py, which is read'),
    ],
)
def test_mistakes(tool, arguments, sentence):
    torch.save({'state_dict': {}, 'meta': {}}, 'bare.pth')
    with pytest.raises(SystemExit, match=sentence):
        tool('misc/print_config', *arguments.split())


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ('job.py --out o.txt', '--out o.txt must end in .py'),
        ('bare.pth --cfg-options a=1', '--cfg-options is for config files'),
    ],
)
def test_arguments(tool, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as exit_:
        tool('misc/print_config', *arguments.split())
    assert exit_.value.code == 2
    assert sentence in capsys.readouterr().err
