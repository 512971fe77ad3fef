"""Processor, threads, memory, GPU and environment variables."""

from __future__ import annotations

import glob
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from doctor_findings import BROKEN, NOTE, OK, Finding

FLAGS = ('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16', 'asimd', 'bf16')
GIB = 2**30
LITTLE_MEMORY, LITTLE_SHM = 4 * GIB, GIB
CGROUP = Path('/sys/fs/cgroup')


def findings(facts: dict[str, Any]) -> Iterator[Finding]:
    """All findings.

    Args:
        facts: What torch knows of the machine; empty if it cannot be imported.
    """
    yield processor(read('/proc/cpuinfo'))
    if facts:
        yield bfloat16(facts['bf16'])
        yield threads(facts['threads'], usable_cores())
        yield from gpus(facts, bool(glob.glob('/dev/nvidia[0-9]*')))
    yield memory(read('/proc/meminfo'), read(CGROUP / 'memory.max'))
    if os.path.isdir('/dev/shm'):
        yield shared_memory(os.statvfs('/dev/shm'))
    yield from variables(os.environ)


def read(path: str | Path) -> str:
    """Content of a file of the system; '' where there is none."""
    try:
        return Path(path).read_text()
    except OSError:
        return ''


def processor(cpuinfo: str) -> Finding:
    """Name and vector instructions, from /proc/cpuinfo."""
    known = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(':')
        known.setdefault(key.strip(), value.strip())
    have = {*known.get('flags', known.get('Features', '')).split()}
    name = known.get('model name') or platform.processor() or platform.machine()
    flags = ', '.join(flag for flag in FLAGS if flag in have) or 'unknown instructions'
    if 'flags' in known and 'avx2' not in have:
        return Finding(NOTE, 'processor', f'{name}, without AVX2: PyTorch is much slower')
    return Finding(OK, 'processor', f'{name}: {flags}')


def bfloat16(supported: bool) -> Finding:
    """Whether --amp helps on the processor."""
    if supported:
        return Finding(OK, 'bfloat16 on the processor', 'yes: --amp uses it')
    text = 'no: --amp computes in float32, since bfloat16 would be slower'
    return Finding(OK, 'bfloat16 on the processor', text)


def usable_cores() -> int:
    """Cores that this process may use, by affinity and by the quota of a container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    quota, _, period = read(CGROUP / 'cpu.max').partition(' ')
    limit = math.ceil(int(quota) / int(period)) if quota.isdigit() else cores
    return max(1, min(cores or 1, limit or 1))


def threads(number: int, cores: int) -> Finding:
    """Threads of torch, against the cores."""
    text = f'{number} of torch on {cores} cores'
    if number > cores:
        mend = f'export OMP_NUM_THREADS={cores}'
        return Finding(NOTE, 'threads', f'{text}: they wait for each other', mend)
    return Finding(OK, 'threads', text)


def memory(meminfo: str, limit: str) -> Finding:
    """Memory of the machine, or of the container if that is less."""
    sizes = dict(line.split(':') for line in meminfo.splitlines() if ':' in line)
    if 'MemTotal' not in sizes:
        return Finding(OK, 'memory', 'unknown')
    total = 1024 * int(sizes['MemTotal'].split()[0])
    total = min(total, int(limit)) if limit.strip().isdigit() else total
    text = f'{total / GIB:.1f} GiB'
    if total < LITTLE_MEMORY:
        mend = 'use a small backbone, a small train_dataloader.batch_size and num_workers=0'
        return Finding(NOTE, 'memory', f'{text}: too little for a ViT-B', mend)
    return Finding(OK, 'memory', text)


def shared_memory(status: os.statvfs_result) -> Finding:
    """Room in /dev/shm, through which data workers send images."""
    size = status.f_blocks * status.f_frsize
    text = f'{size / GIB:.2f} GiB'
    if size < LITTLE_SHM:
        return Finding(
            NOTE,
            '/dev/shm',
            f'{text}: data workers may end with a bus error',
            'docker run --shm-size=8g, or --cfg-options train_dataloader.num_workers=0 '
            'train_dataloader.persistent_workers=False',
        )
    return Finding(OK, '/dev/shm', text)


def gpus(facts: dict[str, Any], present: bool) -> Iterator[Finding]:
    """GPUs that torch sees, against those that the machine has."""
    for gpu in facts['gpus']:
        half = 'bfloat16' if gpu['bf16'] else 'no bfloat16: use AmpOptimWrapper with float16'
        yield Finding(OK, 'GPU', f'{gpu["name"]}, {gpu["memory"] / GIB:.0f} GiB, {half}')
    if facts['gpus']:
        return
    if present and facts['cuda']:
        yield Finding(
            BROKEN,
            'GPU',
            f'there is one, but torch for CUDA {facts["cuda"]} cannot use it',
            'look at nvidia-smi and CUDA_VISIBLE_DEVICES; the driver must be new enough for CUDA '
            f'{facts["cuda"]}',
        )
    elif present:
        yield Finding(
            NOTE,
            'GPU',
            'there is one, but this torch is for the processor',
            'TORCH=cuda bash tools/setup_env.sh, or install torch and torchvision for CUDA',
        )
    elif facts['cuda']:
        text = f'none; torch for CUDA {facts["cuda"]} runs on the processor'
        mend = 'torch for the processor takes 4 GB less: TORCH=cpu bash tools/setup_env.sh'
        yield Finding(OK, 'GPU', text, mend)
    else:
        yield Finding(OK, 'GPU', 'none; torch is for the processor')


def variables(environment: Any) -> Iterator[Finding]:
    """Environment variables that change what everything does."""
    if environment.get('TOAST_MM_TRUST_FILES', '0') not in ('', '0'):
        yield Finding(
            NOTE,
            'TOAST_MM_TRUST_FILES',
            'it is set: files may run code while they are read',
            'unset TOAST_MM_TRUST_FILES, and use toast_mm.checkpoint.trusted() for your own files',
        )
    if environment.get('ATEN_CPU_CAPABILITY'):
        value = environment['ATEN_CPU_CAPABILITY']
        yield Finding(
            NOTE,
            'ATEN_CPU_CAPABILITY',
            f'{value}: PyTorch leaves out newer instructions',
            'unset ATEN_CPU_CAPABILITY',
        )
