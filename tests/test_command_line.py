"""What the tools share."""

from pathlib import Path

import pytest
import torch

from toast_mm.command_line import LOCAL_RANKS, argument_parser, load_config
from toast_mm.engine.config import ConfigError

CONFIG = str(Path(__file__).parents[1] / 'configs/cub25/linear_vit-1m_1xb32-20e_cub25-64x64.py')


@pytest.fixture
def load(monkeypatch):
    """Load a config in a process of a launcher, on a machine with GPUs."""

    def load(launcher: str, number: str, gpus: int):
        for name in LOCAL_RANKS.values():
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv('LOCAL_RANK', '0')
        if launcher != 'none':
            monkeypatch.setenv(LOCAL_RANKS[launcher], number)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: gpus)
        return load_config(argument_parser('').parse_args([CONFIG, '--launcher', launcher]))

    return load


@pytest.mark.parametrize(
    ('launcher', 'number', 'gpus', 'message'),
    [
        ('pytorch', '1', 1, '--launcher pytorch: this is process 2 of this machine, .* 1 GPU: '),
        ('pytorch', '7', 4, 'this is process 8 of this machine, but it sees 4 GPUs: start at most'),
        ('mpi', '2', 2, '--launcher mpi: this is process 3 of this machine, .* 2 GPUs'),
        ('slurm', '3', 2, '--launcher slurm: this is process 4 of this machine, .* 2 GPUs'),
        ('pytorch', 'one', 0, 'LOCAL_RANK=one must be the number of this process on its machine'),
        ('slurm', '-1', 8, 'SLURM_LOCALID=-1 must be the number of this process'),
    ],
)
def test_no_gpu_for_a_process(load, launcher, number, gpus, message):
    with pytest.raises(ConfigError, match=message):
        load(launcher, number, gpus)


@pytest.mark.parametrize(
    ('launcher', 'number', 'gpus'),
    [
        ('pytorch', '1', 2),
        ('pytorch', '3', 0),  # on CPUs
        ('pytorch', '', 1),
        ('mpi', '1', 2),
        ('slurm', '1', 2),
        ('none', '3', 1),
    ],
)
def test_enough_gpus(load, launcher, number, gpus):
    assert load(launcher, number, gpus).launcher == launcher
