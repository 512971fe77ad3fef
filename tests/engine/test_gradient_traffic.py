"""What two processes send each other in a step: gradients of tuned parameters, and no others."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

import toast_mm

# 24 channels, 3 blocks, 5 classes
METHODS = {
    'TOAST': dict(),
    'LoRA': dict(feedback_from=None, tuning=dict(type='toast_mm.LoRA', rank=2)),
    'full fine-tuning': dict(feedback_from=None, frozen=False),
}


def step(rank: int, folder: str) -> None:
    """A step of each method in one of two processes, under autocast; the bytes in a file."""
    assert toast_mm
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    report = {}
    for name, changes in METHODS.items():
        arch = dict(embed_dims=24, num_layers=3, num_heads=3, feedforward_channels=32)
        backbone = dict(type='toast_mm.TOASTViT', arch=arch, img_size=32, patch_size=8, **changes)
        head = dict(type='LinearClsHead', num_classes=5, in_channels=24)
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(dict(type='ImageClassifier', backbone=backbone, head=head))
        wrapped = MMDistributedDataParallel(model.train(), broadcast_buffers=False)
        sent: list[int] = []

        def count(sent, bucket):
            sent.append(bucket.buffer().nbytes)
            return allreduce_hook(distributed.group.WORLD, bucket)

        wrapped.register_comm_hook(sent, count)
        images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(rank))
        samples = [DataSample().set_gt_label(label) for label in (0, 1)]
        with torch.autocast('cpu', torch.bfloat16):
            losses = wrapped(images, samples, mode='loss')
        sum(losses.values()).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        report[name] = dict(
            sent=sum(sent),
            tuned=sum(p.numel() for p in model.parameters() if p.requires_grad),
            parameters=sum(p.numel() for p in model.parameters()),
            gradients=torch.cat([g.flatten() for g in gradients]).tolist(),
        )
    Path(folder, f'{rank}.json').write_text(json.dumps(report))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_only_tuned_parameters_are_all_reduced(tmp_path):
    torch.multiprocessing.spawn(step, (str(tmp_path),), nprocs=2)
    first, second = (json.loads((tmp_path / f'{rank}.json').read_text()) for rank in (0, 1))
    for name in METHODS:
        assert first[name]['sent'] == second[name]['sent'] == 4 * first[name]['tuned'], name
        assert first[name]['gradients'] == second[name]['gradients'], 'not reduced'
        assert any(first[name]['gradients'])
    head = 24 * 5 + 5
    assert first['LoRA']['tuned'] == 3 * (2 * 24 + 3 * 24 * 2) + head
    assert first['TOAST']['tuned'] == 3 * 2 * 24 * 24 + 24 * 24 + 24 + head
    assert first['full fine-tuning']['tuned'] == first['full fine-tuning']['parameters']
    assert first['TOAST']['sent'] < 4 * first['TOAST']['parameters'] / 2
