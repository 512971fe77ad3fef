"""torch.compile takes both passes as one graph."""

import shutil

import pytest
import torch

from toast_mm.models import TOASTConvNeXt, TOASTViT

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
KINDS = {
    'vit': (TOASTViT, dict(arch=ARCH, img_size=16, patch_size=8)),
    'convnext': (TOASTConvNeXt, dict(arch=dict(depths=[1, 1, 1, 1], channels=[4, 6, 8, 10]))),
}


VARIANTS = [
    {},
    dict(drop_path_rate=0.5),
    dict(lite=dict(rank=2)),
    dict(feedback_from='middle'),
    dict(tuning=dict(type='toast_mm.LoRA')),
    dict(tuning=dict(type='toast_mm.SSF'), feedback_from=None),
]
QUICK = [('convnext', 2)]


@pytest.mark.parametrize(
    ('kind', 'kwargs'),
    [
        pytest.param(kind, kwargs, marks=() if (kind, number) in QUICK else pytest.mark.slow)
        for kind in KINDS
        for number, kwargs in enumerate(VARIANTS)
    ],
)
def test_one_graph_with_the_same_outputs_and_gradients(kind, kwargs):
    torch._dynamo.reset()
    torch.manual_seed(0)
    cls, arguments = KINDS[kind]
    backbone = cls(**arguments, **kwargs).train()
    image = torch.rand(4, 3, 32, 32)
    results = []
    for forward in (backbone, torch.compile(backbone, fullgraph=True, backend='aot_eager')):
        backbone.zero_grad()
        torch.manual_seed(1)
        output = forward(image)[0]
        output.sin().sum().backward()
        gradients = {n: p.grad.clone() for n, p in backbone.named_parameters() if p.requires_grad}
        results.append((output.detach(), gradients))
        assert [module.training for module in backbone.modules()].count(True) > 1
    torch.testing.assert_close(*results)


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_folded(kind):
    torch._dynamo.reset()
    cls, arguments = KINDS[kind]
    backbone = cls(**arguments).eval().fold()
    image = torch.rand(2, 3, 32, 32)
    compiled = torch.compile(backbone, fullgraph=True, backend='aot_eager')
    with torch.no_grad():
        torch.testing.assert_close(compiled(image), backbone(image))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which('g++'), reason='inductor needs a compiler')
def test_odd_sizes_under_inductor(monkeypatch, tmp_path):
    """Maps are extended where the downsampling cut something off; the path is all that compiles."""
    # The user's cache may hold code for narrower vectors, which inductor compiles for wider ones.
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path))
    torch._dynamo.reset()
    torch.manual_seed(0)
    feedback = TOASTConvNeXt(**KINDS['convnext'][1]).topdown.feedback
    sizes = {0: (33, 45), 1: (8, 11), 2: (4, 5), 3: (2, 2)}
    selected = torch.rand(2, 1, 1, 10)
    results = []
    for forward in (feedback, torch.compile(feedback)):
        feedback.zero_grad()
        signals = forward(selected, sizes)
        sum(signal.sin().sum() for signal in signals.values()).backward()
        gradients = [parameter.grad.clone() for parameter in feedback.parameters()]
        results.append(({stage: signal.detach() for stage, signal in signals.items()}, gradients))
    torch.testing.assert_close(*results)
