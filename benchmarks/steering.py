"""What pre-tuning, initialisation and mask do for TOAST on small tasks.

Every condition gets the same search: the learning rate is chosen on data held out from training,
then three other seeds are trained and tested. Prints tables in Markdown. Finished runs
stand in the output folder and are not repeated.

    python benchmarks/steering.py cub25 cued --workers 2
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import toast_mm  # noqa: F401  registers the parts
from toast_mm.evaluation import Run, run_all

SEEDS = (1, 2, 3)
METRIC = 'accuracy/top1'
PUBLISHED_STD, DIM = 0.02, 128
PRETUNED = 'toast_mm://vit-1m_tinyin100_toast-last.safetensors'


@dataclass(frozen=True)
class Task:
    """A TOAST job, its learning rates, and on what these are chosen and the result is measured."""

    config: str
    learning_rates: tuple[float, ...]
    selection: dict[str, Any]
    test: dict[str, Any]


TASKS = {
    'cub25': Task(
        'configs/cub25/toast-last_vit-1m_1xb32-20e_cub25-64x64.py',
        (1e-3, 3e-3, 1e-2),
        selection={
            'train_dataloader.dataset.indices': [i for i in range(750) if i % 5],
            'val_dataloader.dataset.split': 'train',
            'val_dataloader.dataset.indices': list(range(0, 750, 5)),
        },
        test={},
    ),
    'cued': Task(
        'configs/quickstart/toast-vit-1m_1xb32-2e_digits-cued-64x64.py',
        (3e-4, 1e-3, 3e-3),
        selection={},
        test={'val_dataloader.dataset.data_root': 'data/digits/cued/test'},
    ),
}


def toast(mean_token: bool = False, pretuned: bool = False, **arguments: Any) -> dict[str, Any]:
    """Settings of a condition: where the task embedding starts, and arguments of the backbone."""
    hooks = [dict(type='toast_mm.StepSeedHook')]
    if mean_token:
        hooks.append(dict(type='toast_mm.MeanTokenInitHook'))
    arguments['pretuned'] = PRETUNED if pretuned else None
    return {
        'custom_hooks': hooks,
        **{f'model.backbone.{name}': value for name, value in arguments.items()},
    }


CONDITIONS = {
    'head alone': toast(feedback_from=None),
    'published std 0.02': toast(feedback_gain=PUBLISHED_STD * DIM**0.5),
    'published gain': toast(),
    'published gain, xi = mean token': toast(mean_token=True),
    'published gain, mask 1': toast(token_selection=False),
    'random feedback, frozen': toast(mean_token=True, channel_selection=False),
    'pre-tuned': toast(pretuned=True),
    'pre-tuned, xi = mean token': toast(pretuned=True, mean_token=True),
    'pre-tuned, mask 1': toast(pretuned=True, token_selection=False),
    'everything tuned, no top-down module': toast(feedback_from=None, frozen=False),
}


def named(*parts: object) -> str:
    """Name of a run, fit for a folder."""
    return '/'.join(str(part).replace(' ', '-').replace(',', '') for part in parts)


def choose_rates(task: str, out_dir: str, workers: int) -> dict[str, float]:
    """Learning rate of every condition, by accuracy on the part held out; a tie takes the lower."""
    runs = {
        (condition, rate): Run(
            named(task, condition, 'search', rate),
            TASKS[task].config,
            {**options, **TASKS[task].selection, 'optim_wrapper.optimizer.lr': rate},
        )
        for condition, options in CONDITIONS.items()
        for rate in TASKS[task].learning_rates
    }
    metrics = run_all(runs.values(), out_dir, workers)
    return {
        condition: max(
            TASKS[task].learning_rates,
            key=lambda rate: (metrics[runs[condition, rate].name][METRIC], -rate),
        )
        for condition in CONDITIONS
    }


def table(task: str, out_dir: str, workers: int) -> str:
    """Table of one task, in Markdown."""
    rates = choose_rates(task, out_dir, workers)
    runs = {
        (condition, seed): Run(
            named(task, condition, seed),
            TASKS[task].config,
            {**options, **TASKS[task].test, 'optim_wrapper.optimizer.lr': rates[condition]},
            seed,
        )
        for condition, options in CONDITIONS.items()
        for seed in SEEDS
    }
    metrics = run_all(runs.values(), out_dir, workers)
    lines = [f'| {task} | lr | top-1 % |', '|---|---|---|']
    for condition in CONDITIONS:
        values = [metrics[runs[condition, seed].name][METRIC] for seed in SEEDS]
        lines.append(
            f'| {condition} | {rates[condition]:g} | {mean(values):.1f} ± {stdev(values):.1f} |'
        )
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('tasks', nargs='+', choices=TASKS, help='tasks to run')
    parser.add_argument('--out-dir', default='work_dirs/steering', help='folder of the runs')
    parser.add_argument('--workers', type=int, default=1, help='runs at a time')
    args = parser.parse_args()
    for task in args.tasks:
        print(table(task, args.out_dir, args.workers), end='\n\n', flush=True)


if __name__ == '__main__':
    main()
