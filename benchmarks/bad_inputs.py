"""Feed generated bad inputs to what reads them: each must end in a sentence or a right result.

Eight families take turns: images, masks, lists of images and labels, checkpoints, task files,
caches of first passes, configs, and arguments of the tools. A sentence is an error, a usage error
or a finding of one line that names the file, key or argument, and is not only what the
interpreter met ("KeyError: 'x'"). A right result is checked by value: pixels against Pillow,
weights, predictions and lists against those of the same input without the damage.

Prints a line per fault and a table. The exit status is 1 if there is a fault.

    python benchmarks/bad_inputs.py --number 500 --seed 0
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault('OPENCV_LOG_LEVEL', 'SILENT')  # read when cv2 is imported

from bad_families import FAMILIES
from bad_world import World
from judging import FAULT, RIGHT, SENTENCE, Case, judge
from rich.console import Console
from rich.progress import track

ALL = 'all'


def draw(world: World, number: int, families: Mapping[str, Any]) -> Iterator[Case]:
    """Cases of the families in turn."""
    makers = [family(world) for family in families.values()]
    for index in range(number):
        turn, place = divmod(index, len(makers))
        yield makers[place].case(turn)
        world.remove()
        if index == len(makers):  # mmengine's data sets collect garbage, most of which is modules
            gc.collect()
            gc.freeze()


def table(verdicts: Counter[tuple[str, str, str]]) -> str:
    """Table in Markdown: numbers by family and damage."""
    lines = [
        '| family | damage | number | sentences | right results | faults |',
        '|---|---|---:|---:|---:|---:|',
    ]
    families = dict.fromkeys(family for family, *_ in verdicts)
    rows = [(family, damage) for family, damage, _ in verdicts]
    rows = sorted({*rows}, key=lambda row: ([*families].index(row[0]), row[1]))
    rows += [(family, ALL) for family in families] + [(ALL, ALL)]
    for family, damage in rows:
        counts = Counter[str]()
        for (of_family, of_damage, verdict), number in verdicts.items():
            if family in (of_family, ALL) and damage in (of_damage, ALL):
                counts[verdict] += number
        numbers = [counts.total(), counts[SENTENCE], counts[RIGHT], counts[FAULT]]
        lines.append(f'| {family} | {damage} | {" | ".join(map(str, numbers))} |')
    return '\n'.join(lines)


def silence() -> Console:
    """Silence libraries in C, which write to the file of standard error; ours stays."""
    sys.stderr = os.fdopen(os.dup(2), 'w', buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    return Console(file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--number', type=int, default=500, metavar='N', help='default: 500')
    parser.add_argument('--seed', type=int, default=0, help='default: 0')
    parser.add_argument('--families', nargs='+', choices=[*FAMILIES], help='default: all')
    parser.add_argument('--show', action='store_true', help='print every sentence as well')
    args = parser.parse_args()
    if args.number < 1:
        parser.error(f'--number {args.number} must be at least 1')
    families = {name: FAMILIES[name] for name in args.families or FAMILIES}
    verdicts: Counter[tuple[str, str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder).resolve(), args.seed)
        cases = draw(world, args.number, families)
        for case in track(cases, 'Feeding', args.number, console=silence(), transient=True):
            verdict, text = judge(case)
            verdicts[case.family, case.damage, verdict] += 1
            if verdict == FAULT or args.show:
                print(f'{verdict}: {case.family}, {case.damage}: {text}', flush=True)
    print(f'\n{table(verdicts)}')
    sys.exit(any(verdict == FAULT for *_, verdict in verdicts))


if __name__ == '__main__':
    main()
