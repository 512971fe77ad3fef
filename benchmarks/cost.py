"""Cost of tuning and running a ViT with TOAST and with other methods.

Prints a table in Markdown: tuned parameters, FLOPs of a forward pass and of a training step, times
of both relative to the plain backbone in the same process, memory saved for the backward pass, and
peak memory. Weights and images are random; no file is read or written.

    python benchmarks/cost.py --arch base --img-size 224
    python benchmarks/cost.py --device cuda --dtype bfloat16 --batch 64 --repeats 20
    python benchmarks/cost.py --device cuda --dense --img-size 512 --batch 4 --repeats 20
    python benchmarks/cost.py --arch vit_7b_patch16_dinov3 --count
    python benchmarks/cost.py --check
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import timm
import torch
from measuring import paired, saved_for_backward
from mmpretrain.models import VisionTransformer
from mmseg.models.decode_heads import FCNHead, UPerHead
from rich.progress import track
from torch import Tensor, nn

from toast_mm.engine.flops import flops_per_image
from toast_mm.models import TOASTTimm, TOASTViT
from toast_mm.models.backbones.first_pass import FirstPass
from toast_mm.models.backbones.toast_vit import SteeredAttention
from toast_mm.models.heads import CrossAttentionAdapter

CLASSES, PROMPTS, RANK = 200, 100, 4
INCA = 'InCA, last 4 layers'
GIVEN = 'first pass given'
SCALES = {'1/2': 1 / 2, '1/3': 1 / 3}  # of the images of a coarse first pass
ROUTES = {
    'last': dict(feedback_from='last', feedback_to='first'),
    'early': dict(feedback_from='middle', feedback_to='first'),
    'late': dict(feedback_from='last', feedback_to='middle'),
}


def vit(arch: str, **kwargs: Any) -> nn.Module:
    """A backbone of an architecture of mmpretrain, or of a model of timm."""
    if arch in VisionTransformer.arch_zoo:
        return TOASTViT(arch=arch, **kwargs)
    return TOASTTimm(arch, **kwargs)


class PublishedAttention(SteeredAttention):
    """Attention as published: it computes queries and keys of the signal, and discards them."""

    def project_value(self, signal: Tensor) -> Tensor:
        return self.qkv(signal).chunk(3, dim=-1)[2]


def published(**kwargs: Any) -> nn.Module:
    backbone = TOASTViT(**kwargs)
    for layer in backbone.layers:
        layer.attn.__class__ = PublishedAttention
    return backbone


def tuning(method: str, **arguments: Any) -> Callable[..., nn.Module]:
    """Builder of a frozen backbone that a method tunes."""
    cfg = dict(type=f'toast_mm.{method}', **arguments)
    return lambda **kw: vit(feedback_from=None, tuning=cfg, **kw)


def methods(route: str) -> dict[str, Callable[..., nn.Module]]:
    """Builders of backbones by name, the plain one first."""
    way, lite = ROUTES[route], dict(rank=RANK)
    rows: dict[str, Callable[..., nn.Module]] = {
        'plain': lambda **kw: vit(feedback_from=None, **kw),
        'linear': lambda **kw: vit(feedback_from=None, **kw),
        'full fine-tuning': lambda **kw: vit(feedback_from=None, frozen=False, **kw),
        f'LoRA, rank {RANK}': tuning('LoRA', rank=RANK),
        f'VPT-deep, {PROMPTS} prompts': tuning('VPT', num_prompts=PROMPTS),
        INCA: lambda **kw: vit(
            feedback_from=None, out_type='raw', out_indices=[-4, -3, -2, -1], **kw
        ),
        f'TOAST as published, {route}': lambda **kw: published(**way, **kw),
    }
    for name, other in ROUTES.items():
        rows[f'TOAST, {name}'] = lambda other=other, **kw: vit(**other, **kw)
    rows[f'TOAST, {route}, {GIVEN}'] = lambda **kw: vit(**way, **kw)
    rows[f'TOAST-Lite, {route}'] = lambda **kw: vit(lite=lite, **way, **kw)
    rows[f'TOAST folded, {route}'] = lambda **kw: vit(**way, **kw).eval().fold()
    for name, scale in SCALES.items():
        coarse = dict(way, first_pass=dict(scale=scale))
        row = f'{route}, first pass at {name}'
        for given in ('', f', {GIVEN}'):
            rows[f'TOAST, {row}{given}'] = lambda coarse=coarse, **kw: vit(**coarse, **kw)
        rows[f'TOAST folded, {row}'] = lambda coarse=coarse, **kw: vit(**coarse, **kw).eval().fold()
    return rows


class Classifier(nn.Module):
    """A backbone with a linear head, or with an InCA adapter on every output."""

    def __init__(self, row: str, backbone: nn.Module, dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        adapters = [CrossAttentionAdapter(dim, CLASSES) for _ in backbone.out_indices]
        self.heads = nn.ModuleList(adapters if row == INCA else [nn.Linear(dim, CLASSES)])
        self.tunable = not backbone.folded
        self.heads.requires_grad_(self.tunable)
        self.dtype = torch.float32
        self.takes_first_pass = row.endswith(GIVEN)
        self.first: FirstPass | None = None

    def prepare(self, images: Tensor) -> None:
        """Compute what a cache would hold of these images."""
        if self.takes_first_pass:
            with torch.no_grad():
                self.first = self.backbone.run_first_pass(images)

    def forward(self, image: Tensor) -> list[Tensor]:
        with self.backbone.using(self.first) if self.first else nullcontext():
            return self.predict(self.backbone(image), image.shape[-2:])

    def predict(self, outputs: tuple[Tensor, ...], size: torch.Size) -> list[Tensor]:
        return [head(out) for head, out in zip(self.heads, outputs, strict=True)]


class Segmentor(Classifier):
    """A backbone with maps of four blocks, UPerNet, and the auxiliary head."""

    def __init__(self, row: str, backbone: nn.Module, dim: int) -> None:
        super().__init__(row, backbone, dim)
        common = dict(num_classes=CLASSES, norm_cfg=dict(type='BN'), align_corners=False)
        upernet = UPerHead(in_channels=[dim] * 4, in_index=[0, 1, 2, 3], channels=512, **common)
        auxiliary = FCNHead(in_channels=dim, in_index=3, channels=256, num_convs=1, **common)
        self.heads = nn.ModuleList([upernet, auxiliary]).requires_grad_(self.tunable)

    def predict(self, outputs: tuple[Tensor, ...], size: torch.Size) -> list[Tensor]:
        heads = self.heads if self.training else self.heads[:1]
        return [nn.functional.interpolate(head(outputs), size, mode='bilinear') for head in heads]


@dataclass
class Cost:
    """A row of the table; None where a column does not apply."""

    tuned: int
    forward_flops: float
    step_flops: float | None = None
    forward_ratio: float | None = None
    forward_ms: float | None = None
    step_ratio: float | None = None
    step_ms: float | None = None
    saved_mib: float | None = None
    peak_mib: float | None = None


def build(row: str, args: argparse.Namespace) -> Classifier:
    dense = {}
    if args.dense:
        depth = VisionTransformer.arch_zoo[args.arch]['num_layers']
        maps = [depth * part // 4 - 1 for part in (1, 2, 3, 4)]
        dense = dict(out_type='featmap', out_indices=maps)
    backbone = methods(args.route)[row](arch=args.arch, img_size=args.img_size, **dense)
    of_timm = isinstance(backbone, TOASTTimm)
    dim = backbone.model.num_features if of_timm else backbone.embed_dims
    return (Segmentor if args.dense else Classifier)(row, backbone, dim)


def forward(model: Classifier, images: Tensor) -> None:
    with torch.no_grad(), autocast(model, images):
        model.eval()(images)


def step(model: Classifier, images: Tensor) -> None:
    with autocast(model, images):
        outputs = model.train()(images)
        labels = torch.zeros_like(outputs[0][:, 0], dtype=torch.long)
        loss = sum(nn.functional.cross_entropy(logits, labels) for logits in outputs)
    loss.backward()
    model.zero_grad()


def autocast(model: Classifier, images: Tensor) -> Any:
    """Autocast for one pass; as in a training, it caches cast weights only within the pass."""
    if model.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(images.device.type, model.dtype)


def flops(run: Callable, model: Classifier, size: int) -> float:
    """FLOPs per image, counted on two images: batch norm on a pooled map needs more than one."""
    images = torch.rand(2, 3, size, size, device='meta')
    model.prepare(images)
    return flops_per_image(lambda batch: run(model, batch), images)


def counts(row: str, args: argparse.Namespace) -> Cost:
    """Count parameters and FLOPs, without running anything."""
    with torch.device('meta'):
        model = build(row, args)
    tuned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    cost = Cost(tuned, flops(forward, model, args.img_size))
    if model.tunable and row != 'plain':
        cost.step_flops = flops(step, model, args.img_size)
    return cost


def peak(device: str) -> float:
    """Peak memory in MiB: resident memory of this process, or memory allocated on the GPU."""
    if device == 'cuda':
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(row: str, args: argparse.Namespace) -> Cost:
    """Measure a row; on a CPU in its own process, so that the peak memory is this row's."""
    gc.collect()  # frees the models of earlier rows, which have reference cycles
    cost = counts(row, args)
    torch.manual_seed(0)
    with torch.device(args.device):
        model = build(row, args)
        images = torch.rand(args.batch, 3, args.img_size, args.img_size)
    model.prepare(images)
    model.dtype = getattr(torch, args.dtype)
    if args.device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
    if model.tunable and row != 'plain':
        cost.saved_mib = saved_for_backward(lambda: step(model, images), model.parameters())
    else:
        forward(model, images)
    cost.peak_mib = peak(args.device)
    if row != 'plain':
        with torch.device(args.device):
            plain = build('plain', args)
        plain.dtype = model.dtype
        per_image = 1000 / args.batch
        cost.forward_ratio, seconds = paired(
            lambda: forward(plain, images),
            lambda: forward(model, images),
            args.repeats,
            args.device,
        )
        cost.forward_ms = per_image * seconds
        if model.tunable:
            cost.step_ratio, seconds = paired(
                lambda: forward(plain, images),
                lambda: step(model, images),
                args.repeats,
                args.device,
            )
            cost.step_ms = per_image * seconds
    return cost


def table(costs: dict[str, Cost]) -> str:
    plain, full = costs['plain'].forward_flops, costs['full fine-tuning'].step_flops
    lines = [
        '| | tuned parameters | forward GFLOPs | x plain | ms per image | x plain | '
        'step GFLOPs | x full | ms per image | x plain forward | saved MiB | peak MiB |',
        '|---|' + '---:|' * 11,
    ]
    for row, cost in costs.items():
        cells = [
            '' if row == 'plain' else f'{cost.tuned / 1e6:.2f}M',
            f'{cost.forward_flops / 1e9:.2f}',
            f'{cost.forward_flops / plain:.2f}',
            *(show(value) for value in (cost.forward_ms, cost.forward_ratio)),
            show(cost.step_flops and cost.step_flops / 1e9),
            show(cost.step_flops and cost.step_flops / full),
            *(show(value) for value in (cost.step_ms, cost.step_ratio)),
            *(show(value, 0) for value in (cost.saved_mib, cost.peak_mib)),
        ]
        lines.append(f'| {row} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def show(value: float | None, digits: int = 2) -> str:
    return '' if value is None else f'{value:.{digits}f}'


def check() -> list[str]:
    """Check the bounds for ViT-B/16 at 224 and return those that are broken."""
    complaints = []

    def demand(what: str, ratio: float, bound: float) -> None:
        print(f'{what}: {ratio:.3f}, at most {bound}')
        if ratio > bound:
            complaints.append(f'broken: {what}')

    args = argparse.Namespace(arch='base', img_size=224, route='last', dense=False)
    plain, full = counts('plain', args).forward_flops, counts('full fine-tuning', args).step_flops
    half, third = (f'last, first pass at {name}' for name in SCALES)
    forwards = {'last': 2.09, 'early': 1.56, 'late': 1.56, half: 1.30, third: 1.16}
    for row, bound in forwards.items():
        args.route = row.split(',')[0]
        ratio = counts(f'TOAST folded, {row}', args).forward_flops / plain
        demand(f'forward of {row}, folded, to the plain backbone', ratio, bound)
    args.route = 'last'
    for row, bound in (('last', 1.23), (half, 0.82)):
        ratio = counts(f'TOAST, {row}', args).step_flops / full
        demand(f'step of {row} to full fine-tuning', ratio, bound)
    return complaints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--arch', default='base', help='architecture of mmpretrain, or a ViT of timm; default: base'
    )
    parser.add_argument('--img-size', type=int, default=224, help='default: 224')
    parser.add_argument(
        '--route', default='last', choices=ROUTES, help='route of the rows that have only one'
    )
    parser.add_argument('--batch', type=int, default=8, help='images of a step; default: 8')
    parser.add_argument('--device', default='cpu', choices=('cpu', 'cuda'), help='default: cpu')
    parser.add_argument(
        '--dtype',
        default='float32',
        choices=('float32', 'bfloat16', 'float16'),
        help='of autocast; default: float32, which is without',
    )
    parser.add_argument('--dense', action='store_true', help='UPerNet in place of a classifier')
    parser.add_argument('--repeats', type=int, default=5, help='of every measurement; default: 5')
    parser.add_argument('--count', action='store_true', help='parameters and FLOPs; run nothing')
    parser.add_argument('--check', action='store_true', help='only whether the FLOPs keep bounds')
    args = parser.parse_args()
    of_mmpretrain = args.arch in VisionTransformer.arch_zoo
    if not of_mmpretrain and not timm.is_model(args.arch):
        known = ', '.join(VisionTransformer.arch_zoo)
        parser.error(f'--arch {args.arch} is no model of timm, and none of these: {known}')
    if args.dense and not of_mmpretrain:
        parser.error(f'--dense is for architectures of mmpretrain, not for --arch {args.arch}')
    if args.check:
        complaints = check()
        for complaint in complaints:
            print(complaint)
        sys.exit(bool(complaints))
    rows = [row for row in methods(args.route) if not (args.dense and row == INCA)]
    if not of_mmpretrain:  # "as published" is written for attentions of mmpretrain
        rows = [row for row in rows if 'as published' not in row]
    costs = {}
    for row in track(rows, description='measuring', transient=True):
        if args.count:
            costs[row] = counts(row, args)
            continue
        if args.device == 'cuda':
            costs[row] = measure(row, args)
            continue
        with ProcessPoolExecutor(1, get_context('spawn')) as process:
            costs[row] = process.submit(measure, row, args).result()
    size = f'{args.img_size} x {args.img_size}'
    if args.count:
        print(f'ViT {args.arch}, {size}, counted\n\n{table(costs)}')
        return
    where = f'{torch.get_num_threads()} threads'
    if args.device == 'cuda':
        where = torch.cuda.get_device_name()
    run = f'batches of {args.batch}, {args.dtype}, {where}, torch {torch.__version__}'
    print(f'ViT {args.arch}, {size}, {run}\n')
    print(table(costs))


if __name__ == '__main__':
    main()
