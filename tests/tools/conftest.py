"""The tools in this process."""

import runpy
import sys

import pytest
from commands import ROOT
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer


def subclasses(cls: type) -> list[type]:
    return [cls, *(below for child in cls.__subclasses__() for below in subclasses(child))]


@pytest.fixture
def tool(monkeypatch):
    """Run a tool in this process: ``tool('train', 'config.py', '--amp')``."""

    def run(name: str, *arguments: str) -> None:
        script = str(ROOT / 'tools' / f'{name}.py')
        monkeypatch.setattr(sys, 'argv', [script, *map(str, arguments)])
        for manager in (DefaultScope, MessageHub, MMLogger, *subclasses(Visualizer)):
            manager._instance_dict.clear()  # a process of its own would have none
        runpy.run_path(script, run_name='__main__')

    return run
