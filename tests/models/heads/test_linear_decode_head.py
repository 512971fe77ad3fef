"""The linear head against its equation."""

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from toast_mm.models import LinearDecodeHead


def random_maps(*channels, size=3):
    generator = torch.Generator().manual_seed(0)
    return [1 + 2 * torch.randn(2, c, size, size, generator=generator) for c in channels]


def make(*args, **kwargs):
    """A head whose parameters all have an effect."""
    torch.manual_seed(0)
    head = LinearDecodeHead(*args, num_classes=5, norm_cfg=dict(type='BN'), **kwargs)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head


def logits_of(head, feature_map, mean, var):
    """``W (gamma (x - mean) / sqrt(var + eps) + beta) + b`` of every pixel, in numpy."""
    x = feature_map.double().numpy().transpose(0, 2, 3, 1)
    gamma, beta = (p.detach().double().numpy() for p in (head.norm.weight, head.norm.bias))
    normed = gamma * (x - mean) / np.sqrt(var + 1e-5) + beta
    weight = head.conv_seg.weight.detach().double().numpy()[:, :, 0, 0]
    logits = normed @ weight.T + head.conv_seg.bias.detach().double().numpy()
    return torch.from_numpy(logits.transpose(0, 3, 1, 2)).float()


def test_in_training_the_batch_is_normed():
    head, (lower, last) = make(4, in_index=1), random_maps(4, 4)
    pixels = last.double().transpose(0, 1).flatten(1).numpy()
    expected = logits_of(head, last, pixels.mean(1), pixels.var(1))
    torch.testing.assert_close(head.train()([lower, last]), expected, atol=1e-5, rtol=1e-4)


def test_in_testing_by_the_statistics_of_training():
    head, (first, second) = make(4), random_maps(4, 4)
    pixels = first.double().transpose(0, 1).flatten(1).numpy()
    head.train()([first])
    mean, var = 0.1 * pixels.mean(1), 0.9 + 0.1 * pixels.var(1, ddof=1)
    expected = logits_of(head, second, mean, var)
    torch.testing.assert_close(head.eval()([second]), expected, atol=1e-5, rtol=1e-4)


def test_several_maps_are_joined():
    head = make([4, 6], in_index=[0, 1], input_transform='resize_concat')
    maps = random_maps(4, 6)
    expected = logits_of(head, torch.cat(maps, 1), np.zeros(10), np.ones(10))
    torch.testing.assert_close(head.eval()(maps), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(('ratio', 'drops'), [(None, False), (0.5, True)])
def test_dropout(ratio, drops):
    head = make(8, **({} if ratio is None else dict(dropout_ratio=ratio))).train()
    maps = random_maps(8)
    outputs = [head(maps) for _ in range(2)]
    assert torch.equal(*outputs) != drops


def test_by_its_name_it_has_a_synchronised_norm():
    with DefaultScope.overwrite_default_scope('mmseg'):
        head = MODELS.build(
            dict(type='toast_mm.LinearDecodeHead', in_channels=768, num_classes=150)
        )
    assert isinstance(head.norm, torch.nn.SyncBatchNorm)
    assert sum(p.numel() for p in head.parameters()) == 2 * 768 + 768 * 150 + 150
    assert all(p.requires_grad for p in head.parameters())
