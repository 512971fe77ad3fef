"""Command lines of the tools, as a user writes them, on small models and data."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

ROOT = Path(__file__).parents[2]


def tiny_ade20k(data_root: Path, **changes: str | None) -> list[str]:
    """--cfg-options that turn configs/ade20k_toast_upernet.py into a job of seconds.

    A change to None leaves the setting as the config has it.
    """
    settings = {
        'model.backbone.arch._delete_': 'True',
        'model.backbone.arch.embed_dims': '16',
        'model.backbone.arch.num_layers': '4',
        'model.backbone.arch.num_heads': '2',
        'model.backbone.arch.feedforward_channels': '32',
        'model.backbone.init_cfg': 'None',
        'model.backbone.out_indices': '0,1,2,3',
        'model.backbone.patch_size': '8',
        'model.backbone.img_size': '32',
        'model.data_preprocessor.size': '(32,32)',
        'model.decode_head.in_channels': '16,16,16,16',
        'model.decode_head.channels': '8',
        'model.auxiliary_head.in_channels': '16',
        'model.auxiliary_head.channels': '8',
        'train_dataloader.batch_size': '2',
        'train_dataloader.num_workers': '0',
        'train_dataloader.persistent_workers': 'False',
        'train_dataloader.dataset.data_root': str(data_root),
        'val_dataloader.dataset.data_root': str(data_root),
        'val_dataloader.num_workers': '0',
        'val_dataloader.persistent_workers': 'False',
        'test_dataloader.dataset.data_root': str(data_root),
        'test_dataloader.num_workers': '0',
        'test_dataloader.persistent_workers': 'False',
        'train_dataloader.dataset.pipeline.3.scale': '(64,48)',
        'train_dataloader.dataset.pipeline.4.crop_size': '(32,32)',
        'val_dataloader.dataset.pipeline.1.scale': '(64,48)',
        'test_dataloader.dataset.pipeline.1.scale': '(64,48)',
        'optim_wrapper.optimizer.lr': '1e-2',
        'param_scheduler.0.end': '2',
        'param_scheduler.1.begin': '2',
        'param_scheduler.1.end': '20',
        'train_cfg.max_iters': '20',
        'train_cfg.val_interval': '10',
        'default_hooks.logger.interval': '5',
        'default_hooks.checkpoint.interval': '10',
        **changes,
    }
    return ['--cfg-options', *(f'{key}={value}' for key, value in settings.items() if value)]


def start(*command: str, **environment: str) -> subprocess.Popen:
    """Start a command from the root of the project with this Python."""
    return subprocess.Popen(
        [sys.executable if part == 'python' else str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, 'PYTHON': sys.executable, 'OMP_NUM_THREADS': '1', **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill_tree(pid: int) -> None:
    """Kill a process and all below it at once, as a power cut would; torchrun's own are groups."""
    children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    os.kill(pid, signal.SIGKILL)
    for child in children:
        kill_tree(int(child))


def as_in_a_new_process() -> None:
    """Forget the runs of this process, which mmengine keeps by name."""
    for manager in (DefaultScope, MessageHub, MMLogger, *_subclasses(Visualizer)):
        manager._instance_dict.clear()


def _subclasses(cls: type) -> list[type]:
    return [cls, *(below for child in cls.__subclasses__() for below in _subclasses(child))]
