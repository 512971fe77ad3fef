"""Reading configs, and the settings of a command line."""

import argparse
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from toast_mm.engine.config import ConfigError, ConfigOptions, apply_options, job_name, read_config


@pytest.fixture
def write(tmp_path):
    """Write a config file; its path."""

    def write(text: str, name: str = 'job.py') -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


LAZY = """
from mmengine.config import read_base
from mmengine.hooks import Hook
hook = dict(type=Hook, priority=[1, 2])
"""


@pytest.mark.parametrize(
    'text', ["a = dict(b=[1, 'x'], c=None)\nd = (1.5, True)", LAZY], ids=['text', 'pure Python']
)
def test_a_dumped_config_is_the_same(write, text, monkeypatch):
    cfg = read_config(write(text))
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', None)  # would be called by mmengine
    again = Config.fromfile(write(cfg.pretty_text, 'again.py'))
    assert again.to_dict() == cfg.to_dict()


def test_settings_of_the_config_stay_what_they_were(write):
    path = write("import os\nname = '{{ fileBasename }}'\nuser = '{{$TOAST_USER:nobody}}'")
    ours, theirs = read_config(path), Config.fromfile(path)
    assert ours.to_dict() == theirs.to_dict()
    assert ours.name == 'job.py' and ours.user == 'nobody'
    assert ours.text == theirs.text and ours.filename == theirs.filename
    assert ours.env_variables == theirs.env_variables


@pytest.mark.parametrize(
    'name, marked',
    [
        ('marked.py', 'marked.py'),
        ('marked.json', 'marked.json'),
        ('child.py', 'marked.py'),
        ('child_of_json.py', 'marked.json'),
        ('pure.py', 'marked.py'),
    ],
)
def test_a_byte_order_mark_is_named(write, name, marked):
    write('\ufeffx = 1', 'marked.py')
    write('\ufeff{"x": 1}', 'marked.json')
    write("_base_ = 'marked.py'", 'child.py')
    write("_base_ = 'marked.json'", 'child_of_json.py')
    folder = Path(write(f'{LAZY}with read_base():\n    from .marked import *', 'pure.py')).parent
    with pytest.raises(ConfigError) as info:
        read_config(str(folder / name))
    assert str(info.value) == (
        f'config file {folder / name} cannot be read: {folder / marked} begins with a byte order '
        'mark: save it as UTF-8 without BOM'
    )


@pytest.mark.parametrize(
    'text, sentence',
    [
        ('x = (', r'SyntaxError.*never closed'),
        ("_base_ = './nowhere.py'", r'FileNotFoundError.*nowhere\.py'),
        ("_base_ = ['mmseg::nowhere/x.py']", r'nowhere/x\.py.* does not exist'),
        ('raise KeyError(3)', r'KeyError: 3'),
        ('exit(3)', r'SystemExit: 3'),
        ('x = _base_.y', r'AttributeError.*y'),
    ],
)
def test_unreadable_configs(write, text, sentence):
    path = write(text)
    with pytest.raises(ConfigError, match=rf'^config file {path} cannot be read: .*{sentence}'):
        read_config(path)


def test_the_data_set_of_a_job_for_several(write, monkeypatch):
    """The data set is part of the name; a wrong one is an error that lists the right ones."""
    write('classes = 3', 'my_birds_64.py')
    write('classes = 5', 'my_cars_64.py')
    write("_base_ = './my_{{$DATASET:birds}}_64.py'", 'parent.py')
    path = write("_base_ = './parent.py'")
    cfg = read_config(path)
    assert (cfg.classes, job_name(path, cfg)) == (3, 'job')
    monkeypatch.setenv('DATASET', 'cars')
    cfg = read_config(path)
    assert (cfg.classes, job_name(path, cfg)) == (5, 'job_cars')
    dumped = read_config(write(cfg.pretty_text, 'dumped.py'))
    assert (dumped.classes, job_name('dumped.py', dumped)) == (5, 'dumped')
    for value in ('dogs', 'a/b'):
        monkeypatch.setenv('DATASET', value)
        message = f'the environment variable DATASET={value} must be one of birds, cars$'
        with pytest.raises(ConfigError, match=message):
            read_config(path)


def test_no_config(write, tmp_path):
    with pytest.raises(ConfigError, match=r'nowhere\.py does not exist'):
        read_config(str(tmp_path / 'nowhere.py'))
    with pytest.raises(ConfigError, match=r'weights\.pth must end in \.py'):
        read_config(write('', 'weights.pth'))


@pytest.mark.parametrize(
    'key, value, reason',
    [
        ('a.b.c.d', 1, 'c'),
        ('pipeline.9.scale', 1, 'Index 9'),
        ('pipeline.scale', 1, 'integers'),
        ('steps.0', 3, "'int' object"),
    ],
)
def test_settings_that_do_not_fit(key, value, reason):
    cfg = Config(dict(a=dict(b=dict(c=4)), pipeline=[dict(type='X')], steps=[dict(end=1)]))
    with pytest.raises(ConfigError, match=rf'^{re.escape(key)}={value} does not fit.*{reason}'):
        apply_options(cfg, {'a.b.c': 5, key: value})


def test_settings_are_merged_together_and_not_used_up():
    cfg = Config(dict(arch=dict(old=1)))
    options = {'arch._delete_': True, 'arch.new': 2, 'other': dict(_delete_=True, x=1)}
    for _ in range(2):
        apply_options(cfg, options)
        assert cfg.arch == dict(new=2)
    assert options['other'] == dict(_delete_=True, x=1)


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={})
    return parser


@pytest.mark.parametrize('setting', ['a', '=3', 'a.=3', '.a=3', ''])
def test_no_setting(parser, capsys, setting):
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(['--cfg-options', 'x=1', setting])
    assert exit_.value.code == 2
    assert f'--cfg-options: {setting!r} must be key=value' in capsys.readouterr().err


@pytest.mark.parametrize('setting', ['a=[(1,2]', 'a=[1,(2]'])
def test_brackets_that_do_not_match(parser, capsys, setting):
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(['--cfg-options', setting])
    assert exit_.value.code == 2
    assert f'the brackets of {setting!r} do not match' in capsys.readouterr().err


def test_settings(parser):
    arguments = ['--cfg-options', 'a.b=1', 'c=[1,x]', 'd=k=v', '--cfg-options', 'a.b=2', 'e=']
    expected = {'a.b': 2, 'c': [1, 'x'], 'd': 'k=v', 'e': ''}
    assert parser.parse_args(arguments).cfg_options == expected
