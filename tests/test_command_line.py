"""What the tools share: as many processes as GPUs."""

from pathlib import Path

import pytest
import torch

from toast_mm.command_line import argument_parser, load_config
from toast_mm.engine.config import ConfigError

CONFIG = str(Path(__file__).parents[1] / 'configs/cub25/linear_vit-1m_1xb32-20e_cub25-64x64.py')


@pytest.fixture
def load(monkeypatch):
    """Load a config in a process of a launcher, on a machine with GPUs."""

    def load(launcher: str, number: int, gpus: int):
        monkeypatch.setenv('LOCAL_RANK', str(number if launcher == 'pytorch' else 0))
        monkeypatch.setenv('OMPI_COMM_WORLD_LOCAL_RANK', str(number))
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
        return load_config(argument_parser('').parse_args([CONFIG, '--launcher', launcher]))

    return load


@pytest.mark.parametrize(
    ('launcher', 'number', 'gpus', 'message'),
    [
        ('pytorch', 1, 1, 'started 2 processes or more on this machine, but there is 1 GPU'),
        ('pytorch', 7, 4, r'8 processes .* there are 4 GPUs.*dist_train.sh CONFIG 4'),
        ('mpi', 2, 2, '--launcher mpi has started 3 processes or more .* there are 2 GPUs'),
    ],
)
def test_more_processes_than_gpus(load, launcher, number, gpus, message):
    with pytest.raises(ConfigError, match=message):
        load(launcher, number, gpus)


@pytest.mark.parametrize(
    ('launcher', 'number', 'gpus'),
    [
        ('pytorch', 1, 2),
        ('pytorch', 3, 0),  # on CPUs
        ('mpi', 1, 2),
        ('slurm', 3, 2),  # whose processes share GPUs, by mmengine
        ('none', 3, 1),
    ],
)
def test_enough_gpus(load, launcher, number, gpus):
    assert load(launcher, number, gpus).launcher == launcher
