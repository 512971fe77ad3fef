"""Time of T tasks on one ViT-B/16 at 224: one after the other, and with a common first pass.

Prints a table in Markdown. Weights are random. Only forward passes are measured, without
preprocessing.

    python benchmarks/multi_task.py
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch
from mmengine.registry import MODELS, DefaultScope
from rich.progress import track

from toast_mm.apis import MultiTask


def tasks(number: int) -> MultiTask:
    """Build models with feedback from the last layer that share their base."""
    together = MultiTask()
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='toast_mm.TOASTViT', arch='deit-base'),
        head=dict(type='VisionTransformerClsHead', num_classes=200, in_channels=768),
        data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    )
    base = None
    for task in range(number):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            built = MODELS.build(model).eval()
        base = base or built.backbone.state_dict()
        names = [name for name in base if built.backbone.is_base(name)]
        own = {**built.backbone.state_dict(), **{name: base[name] for name in names}}
        built.backbone.load_state_dict(own)
        together.add_model(f'task {task}', built)
    return together


def seconds(run, repeats: int) -> float:
    """Median time of a call."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--batch', type=int, default=4, help='images; default: 4')
    parser.add_argument(
        '--repeats', type=int, default=5, help='repeats of every measurement; default: 5'
    )
    args = parser.parse_args()
    batch = dict(inputs=list(torch.zeros(args.batch, 3, 224, 224, dtype=torch.uint8)))
    rows = []
    for number in track((1, 2, 3, 4), description='measuring', transient=True):
        together = tasks(number)

        def one_by_one(together: MultiTask = together) -> None:
            for model in together.values():
                with torch.no_grad():
                    model.test_step(dict(batch))

        apart = seconds(one_by_one, args.repeats)
        rows.append((number, apart, seconds(lambda: together(batch), args.repeats)))  # noqa: B023
    print(f'batches of {args.batch}, {torch.get_num_threads()} threads\n')
    print(
        '| tasks | passes, one after the other | ms per image | passes, together | ms per image '
        '| ratio |'
    )
    print('|---|---|---|---|---|---|')
    for number, apart, at_once in rows:
        per_image = 1000 / args.batch
        print(
            f'| {number} | {2 * number} | {per_image * apart:.0f} | {1 + number} | '
            f'{per_image * at_once:.0f} | {at_once / apart:.2f} |'
        )


if __name__ == '__main__':
    main()
