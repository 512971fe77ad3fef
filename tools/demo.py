"""Serve a page in the browser: predictions of task files, and where the models look.

Drop a picture on the page and choose one or two task files. It shows classes with scores or a
segmentation with its legend, and the attention before and after steering, for any block.

Example:
    python tools/demo.py birds.safetensors work_dirs/cars
"""

from __future__ import annotations

import argparse
import ipaddress
import os.path as osp
import sys

from toast_mm.checkpoint import CheckpointError
from toast_mm.demo import Limits, TaskFiles, find_task_files
from toast_mm.demo.server import serve

DEFAULT = 'work_dirs'
NOTHING = (
    'there are no task files in {}: name a file or another folder, or make some with '
    '`bash tools/quickstart.sh`'
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'task_files',
        nargs='*',
        help='task files or other checkpoints with their config, or folders with such files; '
        f'default: {DEFAULT}',
    )
    parser.add_argument('--device', help='such as cuda:1; default: the GPU if there is one')
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to serve; default: 127.0.0.1, which only this machine reaches',
    )
    parser.add_argument('--port', type=int, default=7860, help='port; default: 7860')
    parser.add_argument(
        '--share',
        action='store_true',
        help='also ask Gradio for a public address, by a tunnel through its servers',
    )
    defaults = Limits()
    for name, kind, meaning in (
        ('megabytes', float, 'largest file that can be uploaded'),
        ('megapixels', float, 'largest picture, in million pixels'),
        ('per-minute', int, 'pictures and predictions of one address in a minute'),
        ('waiting', int, 'requests that can wait for the model'),
    ):
        default = getattr(defaults, name.replace('-', '_'))
        parser.add_argument(
            f'--{name}', type=kind, default=default, help=f'{meaning}; default: {default}'
        )
    return parser.parse_args()


def is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


def main() -> None:
    args = parse_args()
    try:
        limits = Limits(args.megabytes, args.megapixels, args.per_minute, args.waiting)
        places = args.task_files or [place for place in (DEFAULT,) if osp.isdir(place)]
        paths, older = find_task_files(places)
        if not paths:
            sys.exit(NOTHING.format(', '.join(places) or DEFAULT))
        if older:
            print(f'{len(older)} older checkpoints are not offered: name those that you want')
        if not is_local(args.host):
            print(f'everyone who reaches {args.host} can use the page, without a password')
        task_files = TaskFiles(paths, args.device)
        for name, path in paths.items():
            if path in args.task_files:
                task_files[name]  # an error of a named file comes now, not on the page
        serve(task_files, limits, args.host, args.port, args.share)
    except (CheckpointError, ImportError, OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass


if __name__ == '__main__':
    main()
