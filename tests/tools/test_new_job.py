"""Writing a job by arguments and by answers."""

import builtins
import sys
from types import SimpleNamespace

import pytest
from own_images import fill_folder

from toast_mm.engine.config import read_config
from toast_mm.jobs import base_names, method_names


@pytest.fixture
def data(tmp_path):
    fill_folder(tmp_path / 'my data' / 'a', 5, (200, 30, 30))
    fill_folder(tmp_path / 'my data' / 'b', 5, (30, 30, 200))
    return tmp_path / 'my data'


@pytest.fixture
def answers(monkeypatch):
    """Answer the questions of a tool, and note them."""

    def give(*texts):
        asked, waiting = [], list(texts)

        def answer(question):
            asked.append(question)
            return waiting.pop(0)

        monkeypatch.setattr(builtins, 'input', answer)
        monkeypatch.setattr(sys, 'stdin', SimpleNamespace(isatty=lambda: True))
        return asked

    return give


def test_by_arguments(tool, data, tmp_path, capsys):
    out = tmp_path / 'job.py'
    tool(
        *('new_job', 'vit-1m', data, '--method', 'bitfit', '--out', out, '--epochs', 4, '--lr'),
        *(0.5, '--no-flip', '--held-out', 0.4, '--seed', 3),
    )
    printed = capsys.readouterr().out
    assert f'python tools/train.py {out}' in printed
    assert out.read_text() in printed
    cfg = read_config(str(out))
    assert cfg.model.backbone.tuning == dict(type='toast_mm.BitFit')
    assert (cfg.train_cfg.max_epochs, cfg.optim_wrapper.optimizer.lr) == (4, 0.5)
    assert len((tmp_path / 'job_lists' / 'val.txt').read_text().splitlines()) == 4


def test_by_answers(tool, data, tmp_path, capsys, answers, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = answers('nowhere', str(data), 'vit-2m', '', 'lorra', 'lora', 'job.txt', '')
    tool('new_job')
    assert [question.partition(' [')[0].rstrip(': ') for question in asked] == [
        *['folder with your images'] * 2, *['backbone'] * 2, *['method'] * 2, *['config'] * 2,
    ]  # fmt: skip
    printed = capsys.readouterr().out
    for sentence in ('nowhere does not exist', 'near names: vit-1m', 'near names: lora'):
        assert sentence in printed
    cfg = read_config(str(tmp_path / 'lora_vit-1m_my-data.py'))
    assert cfg.model.backbone.tuning.type == 'toast_mm.LoRA'
    assert 'job.txt must end in .py' in printed


def test_only_what_is_missing_is_asked(tool, data, tmp_path, answers, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = answers()
    tool('new_job', 'vit-1m', data, '--out', 'job.py', '--method', 'linear')
    assert asked == []
    asked = answers(str(data), '')
    tool('new_job', '--method', 'linear', '--out', 'b.py')
    assert len(asked) == 2
    assert read_config('b.py').model.backbone.feedback_from is None


def test_the_list_names_everything(tool, capsys):
    tool('new_job', '--list')
    printed = capsys.readouterr().out
    names = [*base_names('classification'), *base_names('segmentation'), *method_names()]
    assert all(name in printed for name in names)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['vit-2m'], 'near names: vit-1m'),
        (['vit-1m', '--method', 'vtp'], 'near names: vpt'),
        (['vit-1m', '--out', 'job'], 'must end in .py'),
        (['vit-1m', '--max-iters', '5'], 'for classification say epochs'),
    ],
)
def test_mistakes_are_sentences(tool, data, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        tool('new_job', arguments[0], data, *arguments[1:])
    assert message in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [data.name]


def test_nobody_to_ask(tool, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'stdin', SimpleNamespace(isatty=lambda: False))
    with pytest.raises(SystemExit) as error:
        tool('new_job', 'vit-1m')
    assert error.value.code == 2
    assert 'data must be given where nobody can be asked' in capsys.readouterr().err


def test_an_existing_config_stays(tool, data, tmp_path):
    out = tmp_path / 'job.py'
    out.write_text('mine = 1\n')
    with pytest.raises(SystemExit) as error:
        tool('new_job', 'vit-1m', data, '--out', out)
    assert 'job.py exists already' in str(error.value)
    assert out.read_text() == 'mine = 1\n'
    tool('new_job', 'vit-1m', data, '--out', out, '--overwrite')
    assert read_config(str(out)).task_files is True


@pytest.mark.slow
def test_the_job_trains_from_another_folder(tool, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ('--epochs', 1, '--image-size', 16)
    tool('new_job', 'vit-1m', data.name, '--method', 'linear', '--out', 'job.py', *settings)
    monkeypatch.chdir(data)
    tool('train', '../job.py', '--work-dir', tmp_path / 'run')
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()
