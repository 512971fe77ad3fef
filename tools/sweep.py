"""Choose the settings of a config on held-out images, then tune and test several seeds.

The last validation on `val_dataloader` chooses the settings; `test_dataloader` gives the results.
The config says which settings are tried. If validation and test use the same images, `held_out`
has settings that hold images out of the training data during the search:

    search = dict(
        lr=[1e-3, 3e-3], weight_decay=[0.01], seeds=[1, 2, 3], held_out={<setting>: <value>},
        metric='accuracy/top1',  # the default; mIoU of a segmentor
    )

Prints a table. Finished runs are not repeated after an interruption.

Example:
    python tools/sweep.py configs/cub25/toast-last_vit-1m_1xb32-20e_cub25-64x64.py
"""

from __future__ import annotations

import argparse
import os.path as osp
import sys

from toast_mm.engine.config import ConfigError, job_name
from toast_mm.experiments import Task, validate_on_test_data
from toast_mm.experiments.cli import add_arguments, grid, load_config, run_and_report
from toast_mm.experiments.cluster import JobError
from toast_mm.experiments.tables import outcome_table
from toast_mm.files import WriteError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='config file')
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args)
        name = job_name(args.config, cfg)
        args.out_dir = args.out_dir or osp.join('work_dirs', name)
        task = Task(
            name,
            args.config,
            args.cfg_options,
            search=cfg.search.get('held_out', {}),
            final=validate_on_test_data(cfg),
            grid=grid(cfg.search),
        )
        run_and_report([task], cfg.search, outcome_table, args)
    except (ConfigError, JobError, WriteError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == '__main__':
    main()
