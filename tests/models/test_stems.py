"""The convolutional stem."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.models import VisionTransformer

from toast_mm.checkpoint import CheckpointError
from toast_mm.models import ConvStem, TOASTViT


def test_values():
    torch.manual_seed(0)
    stem = ConvStem(3, 16, kernel_size=(8, 8), stride=(8, 8)).double()
    for module in stem.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                torch.nn.init.normal_(tensor)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    stem.eval()
    image = torch.rand(2, 3, 32, 24, dtype=torch.double)
    x, weights = image, stem.state_dict()
    for number, width in enumerate((4, 8, 16)):
        kernel = weights[f'{number}.conv.weight']
        assert kernel.shape == (width, x.shape[1], 3, 3)
        x = F.conv2d(x, kernel, stride=2, padding=1)
        norm = {
            key: weights[f'{number}.bn.{key}'][:, None, None]
            for key in ('running_mean', 'running_var', 'weight', 'bias')
        }
        x = (x - norm['running_mean']) / (norm['running_var'] + 1e-5).sqrt()
        x = (x * norm['weight'] + norm['bias']).relu()
    expected = torch.einsum('bchw,oc->bohw', x, weights['3.weight'][..., 0, 0])
    expected = expected + weights['3.bias'][:, None, None]
    assert expected.shape == (2, 16, 4, 3)
    torch.testing.assert_close(stem(image), expected)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize(('side', 'widths'), [(2, [16]), (4, [8, 16]), (16, [2, 4, 8, 16])])
def test_one_convolution_per_halving(side, widths, bias):
    stem = ConvStem(5, 16, (side, side), (side, side), bias=bias)
    shapes = [tuple(kernel.shape) for kernel in stem.state_dict().values() if kernel.ndim == 4]
    assert shapes == [
        *((width, before, 3, 3) for before, width in zip([5, *widths], widths, strict=False)),
        (16, 16, 1, 1),
    ]
    assert (stem[-1].bias is not None) is bias
    assert stem(torch.rand(2, 5, 3 * side, side)).shape == (2, 16, 3, 1)


@pytest.mark.parametrize(
    ('kernel_size', 'stride', 'kwargs'),
    [
        ((6, 6), (6, 6), {}),
        ((1, 1), (1, 1), {}),
        ((8, 8), (4, 4), {}),
        ((8, 4), (8, 4), {}),
        ((8, 8), (8, 8), dict(padding=(1, 1))),
        ((8, 8), (8, 8), dict(dilation=(2, 2))),
    ],
)
def test_patches_that_do_not_fit(kernel_size, stride, kwargs):
    with pytest.raises(ValueError) as info:
        ConvStem(3, 16, kernel_size, stride, **kwargs)
    for part in (f'of {kernel_size} at stride {stride}', 'square', 'another power of 2 wide'):
        assert part in str(info.value)


STEM = dict(
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16),
    img_size=32,
    patch_size=8,
    patch_cfg=dict(conv_type='toast_mm.ConvStem'),
    out_type='raw',
)


def test_weights_of_a_plain_vit_with_this_stem_are_loaded(tmp_path):
    torch.manual_seed(0)
    plain = VisionTransformer(**STEM)
    plain(torch.rand(2, 3, 32, 32))  # moves the statistics
    torch.save(plain.state_dict(), tmp_path / 'vit.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'vit.pth'))
    backbone = TOASTViT(**STEM, feedback_from=None, init_cfg=init_cfg)
    backbone.init_weights()
    plain.eval()
    for size, tokens in (((32, 32), 1 + 16), ((24, 40), 1 + 15), ((30, 33), 1 + 20)):
        image = torch.rand(2, 3, *size)
        output = backbone(image)[0]
        assert output.shape == (2, tokens, 16)
        assert torch.equal(output, plain(image)[0])

    weights = plain.state_dict()
    del weights['patch_embed.projection.1.bn.running_var']
    torch.save(weights, tmp_path / 'vit.pth')
    with pytest.raises(CheckpointError, match=r'missing: patch_embed\.projection\.1\.bn\.running'):
        TOASTViT(**STEM, init_cfg=init_cfg).init_weights()


def test_in_a_frozen_backbone():
    backbone = TOASTViT(**STEM)
    backbone.train()
    statistics = backbone.patch_embed.projection[0].bn.running_mean.clone()
    assert backbone(torch.rand(2, 3, 32, 32))[0].shape == (2, 1 + 16, 16)
    assert backbone.patch_embed.projection[0].bn.running_mean.equal(statistics)  # frozen
