"""Converted ConvNeXts against timm's with the same weights."""

import pytest
import timm
import torch
from mmpretrain.models import ConvNeXt
from timm.models.convnext import checkpoint_filter_fn

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.convert import convert_convnext

SMALL = dict(depths=(1, 2, 1, 1), dims=(8, 12, 16, 20), num_classes=5)
VARIANTS = {
    'v1': ('convnext_tiny', {}),
    'v1 with convolutions': ('convnext_tiny', dict(conv_mlp=True)),
    'v2': ('convnextv2_atto', {}),
}


def make_timm(name, **kwargs):
    torch.manual_seed(0)
    model = timm.create_model(name, **{**SMALL, **kwargs}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def by_its_authors(model):
    """The same weights under the names of the original code."""
    names = {}
    for name in model.state_dict():
        new = name.replace('stem.', 'downsample_layers.0.')
        if '.downsample.' in new:
            _, stage, _, rest = new.split('.', 3)
            new = f'downsample_layers.{stage}.{rest}'
        new = new.replace('.blocks.', '.').replace('conv_dw', 'dwconv').replace('mlp.fc', 'pwconv')
        new = new.replace('mlp.grn.weight', 'grn.gamma').replace('mlp.grn.bias', 'grn.beta')
        names[name] = new.replace('head.norm', 'norm').replace('head.fc', 'head')
    state = {names[name]: tensor for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        if 'grn' in name:
            state[name] = tensor.view(1, 1, 1, -1)
    # timm's own reader makes its names of these.
    back = checkpoint_filter_fn(state, model)
    torch.testing.assert_close(back, dict(model.state_dict()))
    return state


@pytest.mark.parametrize('form', ['timm', 'authors'])
@pytest.mark.parametrize(('name', 'kwargs'), VARIANTS.values(), ids=VARIANTS)
def test_features(name, kwargs, form):
    model = make_timm(name, **kwargs)
    state = model.state_dict() if form == 'timm' else by_its_authors(model)
    converted = convert_convnext(state)
    assert not converted.missing and not converted.unused
    convnext = ConvNeXt(**converted.settings)
    convnext.eval()  # mmpretrain's returns None
    convnext.load_state_dict(
        {n[9:]: t for n, t in converted.weights.items() if n.startswith('backbone.')}
    )
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(image), pre_logits=True)
        features = convnext(image)[0]
    assert (features - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert torch.equal(converted.weights['head.fc.weight'], model.head.fc.weight)
    assert converted.preprocessing['mean'] == [123.675, 116.28, 103.53]


def test_missing():
    state = by_its_authors(make_timm('convnext_tiny'))
    del state['stages.1.1.pwconv2.bias']
    converted = convert_convnext(state)
    assert converted.missing == ['backbone.stages.1.1.pointwise_conv2.bias']
    with pytest.raises(CheckpointError, match='pointwise_conv2'):
        converted.check_whole()


def test_refuses_what_is_no_convnext():
    with pytest.raises(CheckpointError, match='not a ConvNeXt of its authors or of timm'):
        convert_convnext({'blocks.0.weight': torch.rand(1)})
    with pytest.raises(
        CheckpointError, match=r'not a complete ConvNeXt: backbone\.downsample_layers'
    ):
        convert_convnext({'stages.0.0.dwconv.weight': torch.rand(4, 1, 7, 7)})
