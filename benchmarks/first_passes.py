"""Accuracy of TOAST with cheaper first passes, and what they cost.

Every condition gets the same search: the learning rate is chosen on data held out from training,
then three other seeds are trained and tested. Prints a table in Markdown, with the operations of a
prediction (folded) and of a training step relative to the plain backbone, the memory that a step
saves for the backward pass, and the time of a step: median of paired runs on random images, both
relative to the full first pass. Finished runs are read from the output folder and not repeated.

    python benchmarks/first_passes.py cub25 cued lite0 camvid --workers 2 --picture accuracy.png
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import nullcontext
from statistics import mean
from typing import Any

import torch
from conditions import run_conditions
from measuring import paired, saved_for_backward
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from toast_mm.engine.config import apply_options, read_config
from toast_mm.engine.flops import flops_per_image
from toast_mm.experiments import Outcome
from toast_mm.experiments.tables import spread

TASKS = {
    'cub25': 'configs/cub25/toast-last_vit-1m_1xb32-20e_cub25-64x64.py',
    'lite0': 'configs/cub25/toast-pretuned_efficientnet-lite0_1xb32-4e_cub25-128x128.py',
    'cued': 'configs/quickstart/toast-vit-1m_1xb32-400_digits-cued-64x64.py',
    'camvid': 'configs/camvid/toast-vit-1m_upernet_1xb8-600_camvid-96x96.py',
}
SIZES = {'cub25': 64, 'lite0': 128, 'cued': 64, 'camvid': 96}
RATES = {'lite0': [3e-4, 1e-3, 3e-3], 'cued': [5e-4, 1.5e-3, 4.5e-3]}
METRICS = {'camvid': 'mIoU'}
# CamVid: half of its training, validated once.
SETTINGS: dict[str, dict[str, Any]] = {
    'camvid': {
        'train_cfg.max_iters': 300,
        'train_cfg.val_interval': 300,
        'param_scheduler.1.end': 300,
    },
}
PAIRS = 15  # of steps, for times
PLAIN, FULL = 'no second pass', 'full'
CONDITIONS: dict[str, dict[str, Any]] = {
    PLAIN: {'model.backbone.feedback_from': None, 'model.backbone.pretuned': None},
    FULL: {},
    'scale 1/2': {'model.backbone.first_pass': dict(scale=1 / 2)},
    'scale 1/3': {'model.backbone.first_pass': dict(scale=1 / 3)},
    'scale 1/2, cached': {
        'model.backbone.first_pass': dict(scale=1 / 2),
        'first_pass_cache': dict(augmented=True),
    },
}
WHOLE_SIZES = {'camvid': (184, 240)}

Costs = Mapping[str, list[float]]


def conditions_of(task: str) -> dict[str, dict[str, Any]]:
    """Conditions that fit a task: an approximate cache is for crops."""
    found = {name: dict(changes) for name, changes in CONDITIONS.items()}
    hooks = Config.fromfile(TASKS[task]).custom_hooks
    found[PLAIN]['custom_hooks'] = [
        hook for hook in hooks if hook['type'] != 'toast_mm.MeanTokenInitHook'
    ]
    if task in ('lite0', 'cued'):  # without random augmentation a cache is exact
        del found['scale 1/2, cached']
    elif task in WHOLE_SIZES:
        cache = dict(augmented=True, whole_size=WHOLE_SIZES[task])
        found['scale 1/2, cached']['first_pass_cache'] = cache
    return found


class Step:
    """A training step of the backbone of a condition, on random images."""

    def __init__(self, task: str, changes: Mapping[str, Any], device: str = 'cpu') -> None:
        options = {k: v for k, v in changes.items() if k.startswith('model.backbone.')}
        cfg = read_config(TASKS[task])
        apply_options(cfg, options | {'model.backbone.init_cfg': None})
        cfg.model.backbone.pop('pretuned', None)
        size = SIZES[task]
        with torch.device(device):
            self.backbone: Any = MODELS.build(cfg.model.backbone)
            self.images = torch.rand(8 if device == 'cpu' else 2, 3, size, size)
        self.first = None
        if 'first_pass_cache' in changes:
            with torch.no_grad():
                self.first = self.backbone.run_first_pass(self.images)

    def forward(self, images: Tensor) -> Tensor:
        with self.backbone.using(self.first) if self.first else nullcontext():
            return sum(output.float().mean() for output in self.backbone(images))

    def __call__(self, images: Tensor | None = None) -> None:
        self.backbone.train()
        loss = self.forward(self.images if images is None else images)
        if loss.requires_grad:
            loss.backward()
            self.backbone.zero_grad()

    def predict(self, images: Tensor) -> None:
        """A prediction, for which there is no cache. Call :meth:`fold` first."""
        with torch.no_grad():
            self.forward(images)

    def fold(self) -> None:
        self.first = None
        self.backbone.eval()
        if self.backbone.topdown is not None:
            self.backbone.fold()


def costs(task: str) -> dict[str, list[float]]:
    """By condition: operations of a prediction and of a step, memory and time of a step."""
    conditions = conditions_of(task)
    full = Step(task, conditions[FULL])
    counted, memory = {}, saved_for_backward(full, full.backbone.parameters())
    for name, changes in conditions.items():
        counting = Step(task, changes, 'meta')
        step = flops_per_image(counting, counting.images)
        counting.fold()
        operations = flops_per_image(counting.predict, counting.images), step
        real = Step(task, changes)
        saved = saved_for_backward(real, real.backbone.parameters())
        counted[name] = [*operations, saved / memory, paired(full, real, PAIRS)[0]]
    plain = counted[PLAIN][0]
    return {
        name: [predict / plain, step / plain, *rest]
        for name, (predict, step, *rest) in counted.items()
    }


def table(task: str, outcomes: Mapping[str, Outcome], cost: Costs) -> str:
    """Table of one task, in Markdown."""
    metric = 'mIoU' if task in METRICS else 'top-1 %'
    lines = [
        f'| {task} | lr | held out | {metric} | prediction | step | memory | time |',
        '|---|---|---|---|---:|---:|---:|---:|',
    ]
    for condition, outcome in outcomes.items():
        (rate,) = outcome.chosen.values()
        numbers = ' | '.join(f'{value:.2f}' for value in cost[condition])
        lines.append(
            f'| {condition} | {rate:g} | {outcome.selection:.1f} | {spread(outcome.values)} | '
            f'{numbers} |'
        )
    return '\n'.join(lines)


def draw(
    results: Mapping[str, tuple[Mapping[str, Outcome], Mapping[str, list[float]]]], path: str
) -> None:
    """Draw accuracy over the operations of a prediction, a panel for each task."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(5 * len(results), 4), squeeze=False)
    for axis, (task, (outcomes, cost)) in zip(axes[0], results.items(), strict=True):
        for number, (condition, outcome) in enumerate(outcomes.items()):
            deviation = torch.tensor(outcome.values).std().item()
            place = cost[condition][0], mean(outcome.values)
            axis.errorbar(*place, yerr=deviation, fmt='o', capsize=3)
            offset = 6, 6 - 20 * (number % 2)  # neighbours on different sides
            axis.annotate(condition, place, xytext=offset, textcoords='offset points')
        axis.set(title=task, xlabel='operations of a prediction, plain backbone = 1')
        axis.set_ylabel('mIoU' if task in METRICS else 'top-1 %')
        axis.margins(x=0.25)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('tasks', nargs='+', choices=TASKS, help='tasks to run')
    parser.add_argument('--out-dir', default='work_dirs/first_passes', help='folder of the runs')
    parser.add_argument('--workers', type=int, default=1, help='runs at a time')
    parser.add_argument('--picture', help='where to draw accuracy over cost')
    args = parser.parse_args()
    results = {}
    for task in args.tasks:
        outcomes = run_conditions(
            task,
            TASKS[task],
            conditions_of(task),
            args.out_dir,
            args.workers,
            SETTINGS.get(task, {}),
            RATES.get(task),
            METRICS.get(task, 'accuracy/top1'),
        )
        results[task] = outcomes, costs(task)
        print(table(task, *results[task]), end='\n\n', flush=True)
    if args.picture:
        draw(results, args.picture)


if __name__ == '__main__':
    main()
