"""FLOPs of ViT-B/16 at 224 x 224, compared with the plain backbone and full fine-tuning."""

import functools

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from toast_mm.models import TOASTViT


def make(**kwargs):
    with torch.device('meta'):
        return nn.Sequential(TOASTViT(arch='base', **kwargs), Last(), nn.Linear(768, 200))


class Last(nn.Module):
    def forward(self, outputs):
        return outputs[-1]


def flops(model, backward, image=None):
    image = torch.rand(1, 3, 224, 224, device='meta') if image is None else image
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        output = model.train(backward)(image)
        if backward:
            output.sum().backward()
    return counter.get_total_flops()


@functools.cache
def full_fine_tuning():
    return flops(make(feedback_from=None, frozen=False), backward=True)


@pytest.mark.parametrize(
    ('source', 'target', 'passes', 'bound'),
    [('last', 'first', 2, 2.09), ('middle', 'first', 1.5, 1.56), ('last', 'middle', 1.5, 1.56)],
)
def test_folded_forward(source, target, passes, bound):
    """As published, without folding, it is 2.40."""
    plain = flops(make(feedback_from=None), backward=False)
    assert plain == pytest.approx(35.13e9, rel=0.01)
    model = make(feedback_from=source, feedback_to=target)
    model[0].fold()
    assert passes < flops(model, backward=False) / plain <= bound


@pytest.mark.parametrize(
    ('source', 'target', 'bound'),
    [('last', 'first', 1.23), ('middle', 'first', 0.96), ('last', 'middle', 0.79)],
)
def test_step(source, target, bound):
    """As published, from the last layer, it is 1.33."""
    full = full_fine_tuning()
    assert full == pytest.approx(105.15e9, rel=0.01)
    model = make(feedback_from=source, feedback_to=target)
    assert bound - 0.03 < flops(model, backward=True) / full <= bound


@pytest.mark.parametrize(
    ('source', 'target', 'scale', 'bound'),
    [
        ('last', 'first', 1 / 2, 1.30),
        ('last', 'first', 1 / 3, 1.16),
        ('middle', 'first', 1 / 2, 1.16),
        ('last', 'middle', 1 / 2, 1.28),  # the lower half runs in both passes
    ],
)
def test_folded_forward_of_a_coarse_first_pass(source, target, scale, bound):
    plain = flops(make(feedback_from=None), backward=False)
    model = make(feedback_from=source, feedback_to=target, first_pass=dict(scale=scale))
    model[0].fold()
    assert bound - 0.05 < flops(model, backward=False) / plain <= bound


@pytest.mark.parametrize('lite', [None, dict(rank=4)])
@pytest.mark.parametrize(
    ('source', 'target', 'scale', 'bound'),
    [
        ('last', 'first', 1 / 2, 0.82),
        ('last', 'first', 1 / 3, 0.75),
        ('middle', 'first', 1 / 2, 0.75),
        ('last', 'middle', 1 / 2, 0.62),
    ],
)
def test_step_of_a_coarse_first_pass(source, target, scale, bound, lite):
    full = full_fine_tuning()
    model = make(feedback_from=source, feedback_to=target, first_pass=dict(scale=scale), lite=lite)
    assert bound - 0.03 < flops(model, backward=True) / full <= bound


@pytest.mark.parametrize(
    ('source', 'target', 'bound'),
    [('last', 'first', 0.90), ('middle', 'first', 0.79), ('last', 'middle', 0.46)],
)
def test_step_on_a_cached_first_pass(source, target, bound):
    """An early or a late route had half of its first pass to save."""
    full = full_fine_tuning()
    model = make(feedback_from=source, feedback_to=target)
    image = torch.rand(1, 3, 224, 224, device='meta')
    first = model[0].run_first_pass(image)
    first.streams.pop(-1, None)  # what a cache does not hold
    with model[0].using(first):
        assert bound - 0.03 < flops(model, backward=True, image=image) / full <= bound


def test_step_of_toast_lite():
    full = full_fine_tuning()
    assert flops(make(lite=dict(rank=4)), backward=True) / full <= 1.23


def test_nothing_below_the_first_receiver_is_differentiated():
    backbone = make(feedback_to='middle').train()[0]
    needed = []
    for layer in backbone.layers:
        layer.register_forward_hook(lambda *args: needed.append(args[-1].requires_grad))
    backbone(torch.rand(1, 3, 224, 224, device='meta'))
    assert needed == [False] * 12 + [True] * 6
