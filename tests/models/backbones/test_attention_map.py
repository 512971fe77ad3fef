"""Maps of attention leave class and register tokens out, as rows and as columns."""

import pytest
import torch

from toast_mm.models.backbones.attention import map_of_attention


@pytest.mark.parametrize('extra', [0, 1, 4])
def test_without_class_token_it_is_the_mean_over_the_patches(extra):
    weights = torch.rand(2, 3, extra + 6, extra + 6).softmax(-1)
    mean = sum(weights[:, :, extra + patch, extra:] for patch in range(6)) / 6
    maps = map_of_attention(weights, extra, False, (2, 3))
    torch.testing.assert_close(maps, mean.reshape(2, 3, 2, 3))


@pytest.mark.parametrize('extra', [1, 4])
def test_of_the_class_token(extra):
    weights = torch.rand(2, 3, extra + 6, extra + 6).softmax(-1)
    maps = map_of_attention(weights, extra, True, (2, 3))
    torch.testing.assert_close(maps, weights[:, :, 0, extra:].reshape(2, 3, 2, 3))
