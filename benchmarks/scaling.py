"""How trainings scale to many GPUs, by a model of measured, counted and cited terms.

Prints the tables of docs/scaling.md, which explains the model and names its sources. It reads the
measurements and counts of a ViT's rows from benchmarks/COST.md, and runs nothing.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --gpus 1 16 128 --nvlink 360 --network 100
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log2
from pathlib import Path

COST = Path(__file__).with_name('COST.md')
METHODS = (
    'linear',
    'LoRA, rank 4',
    'TOAST-Lite, last',
    'TOAST, early',
    'TOAST, last',
    'full fine-tuning',
)
MIB, BUCKET = 2**20, 25 * 2**20
FLOAT, COPY, ADAMW = 4, 2, 8  # bytes of a float32, of its bfloat16 copy, of AdamW's two moments
UPDATE = 7 * FLOAT  # AdamW reads weight, gradient and moments, and writes all but the gradient
# Seconds of a tree in NCCL's table: at the start, per GPU of a node, per level of nodes
START, WITHIN, BETWEEN = 4.4e-6, 1.2e-6, 8.5e-6


@dataclass(frozen=True)
class Cluster:
    """Nodes of GPUs; bandwidths in bytes per second and direction, memory in bytes."""

    per_node: int = 8
    nvlink: float = 450e9  # of a GPU
    network: float = 400e9  # of a node
    hbm: float = 3.35e12
    memory: float = 80e9

    def bandwidth(self, gpus: int) -> float:
        """Of a ring: through NVLink, and through all adapters of a node at once."""
        return self.nvlink if gpus <= self.per_node else min(self.nvlink, self.network)

    def latency(self, gpus: int) -> float:
        """Seconds that an all-reduce takes however little it carries."""
        local = min(gpus, self.per_node)
        return START + 2 * ((local - 1) * WITHIN + ceil(log2(gpus / local)) * BETWEEN)


@dataclass(frozen=True)
class Shape:
    """What the activations of a ViT are proportional to."""

    title: str
    arch: str
    tokens: int
    dims: int
    depth: int
    batch: int | None = None  # of a GPU; None: as measured

    def elements(self, batch: int) -> int:
        return batch * self.tokens * self.dims * self.depth


SHAPES = (
    Shape('ViT-B', 'base', 197, 768, 12),
    Shape('ViT-L', 'large', 197, 1024, 24),
    Shape('ViT-H', 'huge', 197, 1280, 32),
    Shape('ViT-g', 'eva-g', 197, 1408, 40),
    Shape('ViT-7B', 'vit_7b_patch16_dinov3', 201, 4096, 40, batch=8),
)
MEASURED = SHAPES[3]  # the largest one that is measured


@dataclass(frozen=True)
class Row:
    """A method on a backbone, on one GPU; times in seconds, memory in bytes."""

    tuned: float
    weights: float  # their number, with the frozen ones
    flops: float  # of a step, per image
    batch: int
    seconds: float
    saved: float  # activations for the backward pass, without copies of weights
    activations: float  # the same with what a step needs besides
    peak: float  # allocated in a step, without an optimizer

    @property
    def copies(self) -> float:
        """Weights in bfloat16 that the backward pass keeps, if it reaches them."""
        return COPY * self.weights if self.saved else 0


def read(text: str) -> dict[str, dict[str, list[str]]]:
    """The cells of the tables of cost.py by architecture and row; the first cell is the batch."""
    found: dict[str, dict[str, list[str]]] = {}
    heading = r'^ViT (\S+), 224 x 224, (?:batches of (\d+), bfloat16, .*|counted)\n\n((?:\|.*\n)+)'
    for arch, batch, table in re.findall(heading, text, re.MULTILINE):
        lines = [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines()]
        found[arch] = {name: [batch, *cells] for name, *cells in lines[2:]}
    return found


def measured(tables: dict[str, dict[str, list[str]]], shape: Shape, method: str) -> Row:
    """A row whose time and memory are in the tables."""
    batch, tuned, *_, flops, _, ms, _, saved, peak = tables[shape.arch][method]
    number, weights = float(tuned[:-1]) * 1e6, _weights(tables[shape.arch], method)
    kept, most = float(saved) * MIB, float(peak) * MIB
    copies = COPY * weights if kept else 0
    rest = most - FLOAT * (weights + number) - copies
    return Row(
        tuned=number,
        weights=weights,
        flops=float(flops) * 1e9,
        batch=int(batch),
        seconds=float(ms) / 1000 * int(batch),
        saved=kept - copies,
        activations=max(kept - copies, rest),
        peak=most,
    )


def extrapolated(
    tables: dict[str, dict[str, list[str]]], shape: Shape, method: str, batch: int
) -> Row:
    """A row that is only counted, at the throughput and memory per element of the largest ViT."""
    _, tuned, *_, flops, _, _, _, _, _ = tables[shape.arch][method]
    number, weights = float(tuned[:-1]) * 1e6, _weights(tables[shape.arch], method)
    model = measured(tables, MEASURED, method)
    larger = shape.elements(batch) / MEASURED.elements(model.batch)
    copies = COPY * weights if model.saved else 0
    return Row(
        tuned=number,
        weights=weights,
        flops=float(flops) * 1e9,
        batch=batch,
        seconds=float(flops) * 1e9 * batch * model.seconds / (model.flops * model.batch),
        saved=model.saved * larger,
        activations=model.activations * larger,
        peak=FLOAT * (weights + number) + copies + model.activations * larger,
    )


def _weights(rows: dict[str, list[str]], method: str) -> float:
    """Number of weights: those of the backbone and its head, and those that a method adds."""
    full, linear, tuned = (
        float(rows[name][1][:-1]) * 1e6 for name in ('full fine-tuning', 'linear', method)
    )
    return full if method == 'full fine-tuning' else full + tuned - linear


def gradient_bytes(row: Row) -> float:
    return FLOAT * row.tuned


def traffic(row: Row, gpus: int) -> float:
    """Bytes that a GPU sends in the all-reduce of a step, and as many that it receives."""
    return 2 * (gpus - 1) / gpus * gradient_bytes(row)


def all_reduce(row: Row, gpus: int, cluster: Cluster) -> float:
    """Seconds of the all-reduce of DDP's buckets, one after the other."""
    if gpus == 1:
        return 0
    buckets = 1 + ceil(max(0, gradient_bytes(row) - MIB) / BUCKET)  # the first one is of 1 MiB
    return traffic(row, gpus) / cluster.bandwidth(gpus) + buckets * cluster.latency(gpus)


def step(row: Row, gpus: int, cluster: Cluster) -> float:
    """Seconds of a step in which nothing overlaps."""
    return row.seconds + UPDATE * row.tuned / cluster.hbm + all_reduce(row, gpus, cluster)


def efficiency(row: Row, gpus: int, cluster: Cluster) -> float:
    """Images per second and GPU, as a share of those on one GPU."""
    return step(row, 1, cluster) / step(row, gpus, cluster)


def memory(row: Row) -> float:
    """Bytes of a GPU under DDP, which holds gradients once more in its buckets."""
    return row.peak + (FLOAT + ADAMW) * row.tuned


def images_that_fit(row: Row, cluster: Cluster) -> int:
    fixed = FLOAT * row.weights + row.copies + (2 * FLOAT + ADAMW) * row.tuned
    return max(0, int((cluster.memory - fixed) / (row.activations / row.batch)))


def gathers(method: str) -> int:
    """How often FSDP gathers a block's weights in a step: per forward and backward pass."""
    passes = 2 if method.startswith('TOAST') else 1
    return passes if method == 'linear' else passes + 1


def sharded_memory(row: Row, depth: int, gpus: int) -> float:
    """Bytes of a GPU under FSDP: shards, activations, and two gathered blocks."""
    shards = FLOAT * row.weights + (FLOAT + ADAMW) * row.tuned
    return shards / gpus + row.activations + 2 * FLOAT * row.weights / depth


def sharded_traffic(row: Row, method: str, gpus: int) -> float:
    """Bytes that a GPU sends in a step under FSDP: weights and gradients."""
    return (gpus - 1) / gpus * (gathers(method) * FLOAT * row.weights + gradient_bytes(row))


def rows(text: str) -> Iterator[tuple[Shape, str, Row]]:
    tables = read(text)
    for shape in SHAPES:
        for method in METHODS:
            if shape.batch:
                yield shape, method, extrapolated(tables, shape, method, shape.batch)
            else:
                yield shape, method, measured(tables, shape, method)


def table(columns: list[str], lines: list[list[str]]) -> str:
    head = [f'| {" | ".join(columns)} |', '|---|---|' + '---:|' * (len(columns) - 2)]
    return '\n'.join([*head, *(f'| {" | ".join(line)} |' for line in lines)])


def memory_table(text: str, cluster: Cluster) -> str:
    columns = ['backbone, images', 'method', 'tuned', 'weights', 'saved', 'gradients, twice']
    lines = []
    for shape, method, row in rows(text):
        parts = (FLOAT * row.weights, row.saved + row.copies, 2 * FLOAT * row.tuned)
        parts = (*parts, ADAMW * row.tuned, memory(row))
        cells = [f'{row.tuned / 1e6:.2f}M', *(f'{part / 1e9:.2f}' for part in parts)]
        cells.append(str(images_that_fit(row, cluster)))
        lines.append([f'{shape.title}, {row.batch}', method, *cells])
    return table([*columns, 'AdamW', 'GB per GPU', 'images that fit'], lines)


def time_table(text: str, cluster: Cluster, numbers: list[int]) -> str:
    many = [gpus for gpus in numbers if gpus > 1]
    columns = ['backbone', 'method', 'MB of gradients', *(f'all-reduce, {n}' for n in many)]
    lines = []
    for shape, method, row in rows(text):
        cells = [f'{gradient_bytes(row) / 1e6:.1f}']
        cells += [f'{1000 * all_reduce(row, n, cluster):.2f}' for n in many]
        for n in numbers:
            share = f' ({efficiency(row, n, cluster):.0%})' if n > 1 else ''
            cells.append(f'{1000 * step(row, n, cluster):.1f}{share}')
        lines.append([shape.title, method, *cells])
    return table([*columns, *(f'step, {n}' for n in numbers)], lines)


def sharded_table(text: str, cluster: Cluster, numbers: list[int]) -> str:
    """The rows of the largest backbone, of which some do not fit."""
    many = [gpus for gpus in numbers if gpus > 1]
    columns = ['backbone, images', 'method', 'GB under DDP', 'fits']
    columns += [f'GB under FSDP, {n}' for n in many] + [f'GB sent under FSDP, {n}' for n in many]
    lines = []
    for shape, method, row in rows(text):
        if shape is SHAPES[-1]:
            fits = 'yes' if memory(row) <= cluster.memory else 'no'
            values = [sharded_memory(row, shape.depth, n) for n in many]
            values += [sharded_traffic(row, method, n) for n in many]
            cells = [f'{memory(row) / 1e9:.1f}', fits, *(f'{value / 1e9:.1f}' for value in values)]
            lines.append([f'{shape.title}, {row.batch}', method, *cells])
    return table(columns, lines)


def main() -> None:
    default = Cluster()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--gpus', type=int, nargs='+', default=[1, 8, 64, 512])
    parser.add_argument(
        '--nvlink', type=float, default=default.nvlink / 1e9, help='GB/s of a GPU, per direction'
    )
    parser.add_argument(
        '--network', type=float, default=default.network / 1e9, help='GB/s of a node, per direction'
    )
    parser.add_argument('--memory', type=float, default=default.memory / 1e9, help='GB of a GPU')
    args = parser.parse_args()
    for name in ('nvlink', 'network', 'memory'):
        if getattr(args, name) <= 0:
            parser.error(f'--{name} {getattr(args, name)} must be above 0')
    for gpus in args.gpus:
        if gpus < 1 or (gpus > default.per_node and gpus % default.per_node):
            parser.error(f'--gpus {gpus} must be 1 to 8, or a multiple of 8, whole nodes')
    cluster = Cluster(
        nvlink=args.nvlink * 1e9, network=args.network * 1e9, memory=args.memory * 1e9
    )
    text = COST.read_text()
    print(memory_table(text, cluster), end='\n\n')
    print(time_table(text, cluster, args.gpus), end='\n\n')
    print(sharded_table(text, cluster, args.gpus))


if __name__ == '__main__':
    main()
