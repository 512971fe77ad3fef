"""Operations of the families: those of the parent, and those of a run on real images."""

import pytest
import torch
from mmengine.config import Config
from small_backbones import KINDS, plain, tuned
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from toast_mm.engine.flops import costs


def count(backbone):
    """Operations per image, with attention by matrix products: a CPU's fused one is not counted."""
    images = torch.rand(2, 3, 32, 32).double()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        backbone(images)
    return counter.get_total_flops() / 2


def job(kind, **arguments):
    backbone, _, sizes = KINDS[kind]
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier', backbone=dict(type=backbone, **{**sizes, **arguments})
            ),
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_family(kind):
    found = costs(job(kind), (32, 32))
    parent = count(plain(kind))
    assert found['plain backbone'].flops == parent
    steered = tuned(kind, None, feedback_from='last')
    assert found['backbone, both passes'].flops == count(steered)
    assert parent < found['backbone, folded'].flops == count(steered.fold())
    assert found['backbone, folded'].flops < found['backbone, both passes'].flops


def test_method():
    found = costs(
        job('vit', feedback_from=None, tuning=dict(type='toast_mm.LoRA', rank=4)), (32, 32)
    )
    assert list(found) == ['plain backbone', 'backbone', 'model']
    plain_, with_method = found['plain backbone'], found['backbone']
    added = 3 * 2 * 2 * 4 * 24  # blocks, query and value, two matrices of rank 4
    assert with_method.parameters - plain_.parameters == with_method.tuned == added
    assert plain_.tuned == 0
