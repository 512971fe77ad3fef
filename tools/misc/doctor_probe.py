"""Import modules and report each in a line of JSON; doctor.py runs this in a process of its own.

python doctor_probe.py OUT MODULE...
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from importlib.util import find_spec
from os.path import dirname
from typing import Any


def report(out: str, **record: Any) -> None:
    """Add a line; the next import may end the process."""
    with open(out, 'a') as file:
        file.write(f'{json.dumps(record)}\n')


def facts() -> dict[str, Any]:
    """What torch and mmcv know of the machine."""
    import torch

    project: Any = sys.modules.get('toast_mm')
    mkldnn = torch.backends.mkldnn
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return dict(
        cuda=torch.version.cuda or torch.version.hip,
        gpus=[
            dict(
                name=torch.cuda.get_device_name(device),
                memory=torch.cuda.get_device_properties(device).total_memory,
                bf16=torch.cuda.get_device_capability(device) >= (8, 0),
            )
            for device in devices
        ],
        bf16=bool(mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        threads=torch.get_num_threads(),
        capability=torch.backends.cpu.get_cpu_capability(),
        ops='mmcv' in sys.modules and find_spec('mmcv._ext') is not None,
        project=project and dict(version=project.__version__, folder=dirname(project.__file__)),
        transformers='transformers' in sys.modules,
    )


def main() -> None:
    out, *modules = sys.argv[1:]
    for name in modules:
        start = time.perf_counter()
        try:
            importlib.import_module(name)
            error = None
        except BaseException as raised:  # a broken package may even call sys.exit
            error = f'{type(raised).__name__}: {raised}'
        report(out, module=name, seconds=time.perf_counter() - start, error=error)
    if 'torch' in sys.modules:
        report(out, facts=facts())


if __name__ == '__main__':
    main()
