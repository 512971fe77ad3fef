"""Effect of pre-tuning, initialisation and mask on TOAST in small tasks.

Every condition gets the same search: the learning rate is chosen on data held out from training,
then three other seeds are trained and tested. Prints tables in Markdown. Finished runs are read
from the output folder and not repeated.

    python benchmarks/steering.py cub25 cued --workers 2
"""

from __future__ import annotations

import argparse
from typing import Any

from conditions import run_conditions

from toast_mm.experiments.tables import spread

PUBLISHED_STD, DIM = 0.02, 128
PRETUNED = 'toast_mm://vit-1m_tinyin100_toast-last.safetensors'


TASKS = {
    'cub25': 'configs/cub25/toast-last_vit-1m_1xb32-20e_cub25-64x64.py',
    'cued': 'configs/quickstart/toast-vit-1m_1xb32-400_digits-cued-64x64.py',
}
# The quickstart trains for fewer iterations and clips gradients; this benchmark does not.
SETTINGS: dict[str, dict[str, Any]] = {
    'cub25': {},
    'cued': {
        'optim_wrapper.clip_grad': None,
        'optim_wrapper.optimizer.betas': (0.9, 0.999),
        'param_scheduler.1.end': 500,
        'train_cfg.max_iters': 500,
        'train_cfg.val_interval': 500,
    },
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
    'linear probe': toast(feedback_from=None),
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


def table(task: str, out_dir: str, workers: int) -> str:
    """Table of one task, in Markdown."""
    outcomes = run_conditions(task, TASKS[task], CONDITIONS, out_dir, workers, SETTINGS[task])
    lines = [f'| {task} | lr | held out | top-1 % |', '|---|---|---|---|']
    for condition, outcome in outcomes.items():
        (rate,) = outcome.chosen.values()
        lines.append(
            f'| {condition} | {rate:g} | {outcome.selection:.1f} | {spread(outcome.values)} |'
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
