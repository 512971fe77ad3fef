"""Damaged lists of images and labels, in the formats that the data sets and converters read."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bad_world import World, samples
from damage import cut, emptied, zeroed
from judging import Case, WrongResultError
from small_jobs import write_config

Pair = tuple[str, Any]  # path and label
Pairs = list[Pair]


def _one(pairs: Pairs, rng: random.Random, change: Callable[[Pair], Pair]) -> Pairs:
    place = rng.randrange(len(pairs))
    return [change(pair) if index == place else pair for index, pair in enumerate(pairs)]


def missing_file(pairs: Pairs, rng: random.Random) -> Pairs:
    return _one(pairs, rng, lambda pair: (f'gone/{rng.randrange(1000)}.png', pair[1]))


def no_number(pairs: Pairs, rng: random.Random) -> Pairs:
    word = rng.choice(['cat', '1.5', 'nan', '0x1', '1e0', '?', 'None', '²'])
    return _one(pairs, rng, lambda pair: (pair[0], word))


def negative(pairs: Pairs, rng: random.Random) -> Pairs:
    return _one(pairs, rng, lambda pair: (pair[0], -rng.randrange(1, 1000)))


def too_large(pairs: Pairs, rng: random.Random) -> Pairs:
    return _one(pairs, rng, lambda pair: (pair[0], rng.choice([2, 3, 1000, 2**40])))


def no_label(pairs: Pairs, rng: random.Random) -> Pairs:
    return _one(pairs, rng, lambda pair: (pair[0], ''))


def nothing(pairs: Pairs, rng: random.Random) -> Pairs:
    return []


def doubled(pairs: Pairs, rng: random.Random) -> Pairs:
    place = rng.randrange(len(pairs))
    return [*pairs[: place + 1], *pairs[place:]]


def two_labels(pairs: Pairs, rng: random.Random) -> Pairs:
    path, label = rng.choice(pairs)
    return [*pairs, (path, 1 - label)]


OF_ENTRIES: dict[str, Callable[[Pairs, random.Random], Pairs]] = {
    'a missing image': missing_file,
    'a label that is no number': no_number,
    'a negative label': negative,
    'a label beyond the classes': too_large,
    'an entry without label': no_label,
    'no entries': nothing,
    'an entry twice': doubled,
    'two labels for an image': two_labels,
}


def with_mark(content: bytes, rng: random.Random) -> bytes:
    return b'\xef\xbb\xbf' + content


def windows_lines(content: bytes, rng: random.Random) -> bytes:
    return content.replace(b'\n', b'\r\n')


def blank_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b'\n')
    for _ in range(3):
        lines.insert(rng.randrange(len(lines)), rng.choice([b'', b'  ']))
    return b'\n'.join(lines) + b'\n\n'


def broken_text(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + rng.choice([b'\xff', b'\xc3(', b'\xe4']) + content[place:]


def wide_text(content: bytes, rng: random.Random) -> bytes:
    return content.decode().encode('utf-16')


def other_separators(content: bytes, rng: random.Random) -> bytes:
    mark = rng.choice([b';', b'|', b'='])
    return content.replace(b',', mark).replace(b' ', mark).replace(b':', mark)


OF_BYTES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    'byte order mark': with_mark,
    'lines of Windows': windows_lines,
    'blank lines': blank_lines,
    'broken UTF-8': broken_text,
    'UTF-16': wide_text,
    'truncated': cut,
    'empty file': emptied,
    'zeroed': zeroed,
    'other separators': other_separators,
}
# What leaves the entries as they are. A reader may refuse it, but not read something else.
HARMLESS = ('byte order mark', 'lines of Windows', 'blank lines', 'UTF-16')
KINDS = (*OF_ENTRIES, *OF_BYTES, 'missing list', 'a folder')


def as_lines(pairs: Pairs) -> bytes:
    return ''.join(f'{path} {label}\n' for path, label in pairs).encode()


def as_json(pairs: Pairs) -> bytes:
    entries = [f'{json.dumps(path)}: {json.dumps(label)}' for path, label in pairs]
    return f'{{{", ".join(entries)}}}\n'.encode()


def as_csv(pairs: Pairs) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator='\n').writerows([('path', 'label'), *pairs])
    return buffer.getvalue().encode()


class Lists:
    """Lists of VTAB, of FGVC and of mmpretrain's ``CustomDataset``, and tables to convert."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.pairs: Pairs = [
            (str(path.relative_to(world.images / 'train')), int(path.parent.name[-1]))
            for path in sorted((world.images / 'train').rglob('*.png'))
        ]

    def case(self, turn: int) -> Case:
        rounds, kind = divmod(turn, len(KINDS))
        damage = KINDS[kind]
        forms = (self.vtab, self.split_file, self.custom, self.table)
        form = forms[(kind + rounds) % len(forms)]
        folder = self.world.copy(self.world.images)
        file, write, run = form(folder)
        stated = self.pairs
        if damage == 'a folder':
            file.mkdir()
        elif damage != 'missing list':
            rng = self.world.random
            stated = OF_ENTRIES[damage](self.pairs, rng) if damage in OF_ENTRIES else self.pairs
            content = write(stated)
            file.write_bytes(OF_BYTES[damage](content, rng) if damage in OF_BYTES else content)
        if form == self.table:
            right = rights_of_a_table(damage, stated)
        else:
            right = rights(damage, stated, form == self.split_file)
        names = (file.name, str(folder))
        if damage == 'a label beyond the classes' and form == self.split_file:
            names = (*names, 'data set CUB')  # one more class, which may be meant
        return Case('lists', damage, names, functools.partial(self.read, right, run))

    def read(self, right: Callable[[Pairs], bool], run: Callable[[], tuple[Pairs, str]]) -> Any:
        """Read a list, and compare it with what it says."""
        found, told = run()
        if right(found):
            return None
        if told:
            return told
        raise WrongResultError(f'read as {len(found)} entries: {sorted(found)[:2]} ...')

    def trained(self, folder: Path, dataset: str) -> tuple[Pairs, str]:
        """Train on the listed images, and return what the data set lists."""
        config = write_config('short', folder, folder.parent)
        with config.open('a') as file:
            file.write(
                'train_dataloader = dict(batch_size=4, num_workers=0, sampler=dict(type='
                f"'toast_mm.DefaultSampler', shuffle=True), dataset=dict({dataset}, "
                'pipeline=[*_load, *_pack]))\n'
                'val_dataloader = val_cfg = val_evaluator = None\n'
                'test_dataloader = test_cfg = test_evaluator = None\n'
            )
        self.world.train(config, **{'default_hooks.checkpoint.save_best': 'None'})
        data = samples(config)
        entries = map(data.get_data_info, range(len(data)))
        return [(_short(Path(info['img_path'])), int(info['gt_label'])) for info in entries], ''

    def vtab(self, folder: Path) -> tuple[Path, Callable, Callable]:
        file = folder / 'train/train.txt'
        for split in ('trainval', 'test'):
            (folder / f'train/{split}.txt').write_bytes(as_lines(self.pairs))
        dataset = f"type='toast_mm.VTAB', data_root='{folder}', task='train', split='train'"
        return file, as_lines, lambda: self.trained(folder, dataset)

    def split_file(self, folder: Path) -> tuple[Path, Callable, Callable]:
        (folder / 'train').rename(folder / 'images')
        (folder / 'test.json').write_bytes(as_json([('class_0/x.png', 0), ('class_1/x.png', 1)]))
        dataset = f"type='toast_mm.CUB', data_root='{folder}', split='train'"
        return folder / 'train.json', as_json, lambda: self.trained(folder, dataset)

    def custom(self, folder: Path) -> tuple[Path, Callable, Callable]:
        file = folder / 'list.txt'
        dataset = (
            f"type='CustomDataset', data_prefix='{folder}/train', ann_file='{file}', "
            "metainfo=dict(classes=['first', 'second'])"
        )
        return file, as_lines, lambda: self.trained(folder, dataset)

    def table(self, folder: Path) -> tuple[Path, Callable, Callable]:
        file, target = folder / 'train/table.csv', folder / 'converted'

        def convert() -> tuple[Pairs, str]:
            shares = ('--val', '0', '--test', '0')
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                self.world.tool('dataset_converters/csv_table', file, target, *shares)
            written = [path.relative_to(target / 'train').parts for path in target.rglob('*.png')]
            lines = output.getvalue().splitlines()
            left_out = [line for line in lines if file.name in line or 'gone/' in line]
            return [('/'.join(p[1:]), p[0]) for p in written], ' '.join(left_out[:1])

        return file, as_csv, convert


def _short(path: Path) -> str:
    return '/'.join(path.parts[-2:])


# After these the list says something else, which is right to read.
CONSISTENT = ('an entry twice', 'two labels for an image')


def rights(damage: str, stated: Pairs, mapping: bool) -> Callable[[Pairs], bool]:
    """Whether entries are those that a list states; a mapping states each image once."""
    if damage == 'truncated' and not mapping:  # the whole lines before the cut
        return lambda found: found == stated[: len(found)]
    if mapping and damage == 'an entry twice':
        return lambda found: sorted(found) == sorted(set(stated))
    if damage in OF_BYTES or damage == 'an entry twice' or (damage in CONSISTENT and not mapping):
        return lambda found: sorted(found) == sorted(stated)
    return lambda found: False


def rights_of_a_table(damage: str, stated: Pairs) -> Callable[[Pairs], bool]:
    """As :func:`rights`, for a table, in which any word is the name of a class."""
    named = sorted({(path, str(label)) for path, label in stated})
    if damage == 'truncated':
        return lambda found: 0 < len(found) and sorted(found) == named[: len(found)]
    if damage in ('a missing image', 'an entry without label', 'no entries'):
        return lambda found: False
    return lambda found: sorted(found) == named
