"""Errors of the command line of the page."""

import os
import socket
import sys
from unittest import mock

import pytest


def exit_of(tool, *arguments):
    with pytest.raises(SystemExit) as stop:
        tool('demo', *arguments)
    return stop.value.code


@pytest.fixture
def file(tmp_path):
    """A file that is only opened when the page asks for it."""
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'x.pth').touch()
    return tmp_path / 'run' / 'x.pth'


def test_without_task_files(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exit_of(tool).startswith('there are no task files in work_dirs: name a file')
    (tmp_path / 'empty').mkdir()
    assert exit_of(tool, 'empty').startswith('there are no task files in empty: name a file')
    assert exit_of(tool, 'nowhere') == 'nowhere: there is no such task file or folder'


def test_a_named_file_is_checked_at_once(tool, file):
    assert str(file) in exit_of(tool, str(file))


def test_without_gradio(tool, file):
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    with mock.patch.dict(sys.modules, gradio=None), mock.patch.dict(os.environ):
        message = exit_of(tool, str(file.parent), '--port', str(port))
    assert message.startswith('the page needs Gradio')
    assert message.endswith('pip install "toast_mm[demo]"')


def test_a_taken_port(tool, file, capsys):
    with socket.create_server(('0.0.0.0', 0)) as taken:
        port = taken.getsockname()[1]
        message = exit_of(tool, str(file.parent), '--port', str(port), '--host', '0.0.0.0')
    assert message.startswith(f'0.0.0.0:{port} cannot be served')
    out = capsys.readouterr().out
    assert out == 'everyone who reaches 0.0.0.0 can use the page, without a password\n'


def test_limits_must_be_above_0(tool, file):
    assert exit_of(tool, str(file.parent), '--megabytes', '0') == 'megabytes=0.0 must be above 0'
