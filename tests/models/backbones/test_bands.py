"""Images of other than three bands, in all families of backbones."""

import pytest
import timm
import torch
from safetensors.torch import save
from small_backbones import KINDS, plain, scatter
from torch import nn

from toast_mm.apis.multi_task import shares_first_pass
from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.adapter import frozen_base, leave_out_base, make_record
from toast_mm.checkpoint.pretuned import load_pretuned, save_pretuned
from toast_mm.engine.hooks import FirstPassCacheHook
from toast_mm.models import TOASTTimm, TOASTViT

STEMS = {
    'vit': 'patch_embed.projection.weight',
    'convnext': 'downsample_layers.0.0.weight',
    'timm': 'model.patch_embed.proj.weight',
    'eva': 'model.patch_embed.proj.weight',
    'stages': 'model.stem.0.weight',
    'batch norm': 'model.conv_stem.weight',
    'swin': 'model.patch_embed.proj.weight',
    'mixer': 'patches.weight',
}
kinds = pytest.mark.parametrize('kind', KINDS)
some_bands = pytest.mark.parametrize('bands', [1, 2, 6, 16])


@pytest.fixture
def base(kind, tmp_path):
    """A file of a base of three bands."""
    torch.save(plain(kind).float().state_dict(), tmp_path / 'base.pth')
    return str(tmp_path / 'base.pth')


def build(kind, bands, base=None, **arguments):
    cls, _, sizes = KINDS[kind]
    init_cfg = base and dict(type='Pretrained', checkpoint=base)
    return cls(**sizes, in_channels=bands, init_cfg=init_cfg, **arguments)


def images(bands):
    return torch.rand(2, bands, 32, 32, generator=torch.Generator().manual_seed(bands))


def fitted(stem, bands):
    """The published rule: one band gets the sum, more get copies in turn that keep the scale."""
    if bands == 1:
        return stem.sum(1, keepdim=True)
    return torch.stack([stem[:, band % 3] * 3 / bands for band in range(bands)], 1)


def task_file(backbone):
    weights, names = dict(backbone.state_dict()), frozen_base(backbone)
    leave_out_base(weights, names, make_record(backbone, names), '')
    return weights


def trained(backbone):
    return [name for name, weight in backbone.named_parameters() if weight.requires_grad]


@some_bands
@kinds
def test_a_base_of_three_bands_is_fitted(kind, bands, base):
    backbone = build(kind, bands, base)
    assert backbone.in_channels == bands
    backbone.init_weights()
    expected = torch.load(base)
    for name, weight in backbone.state_dict().items():
        if name == STEMS[kind]:
            source = expected[name if name in expected else name.removeprefix('model.')]
            torch.testing.assert_close(weight, fitted(source, bands))
        elif backbone.is_base(name):
            assert torch.equal(weight, expected[name]), name


@kinds
def test_equal_bands_give_what_the_base_gives_for_gray(kind, base):
    gray = images(1)
    expected = plain(kind).float()(gray.expand(-1, 3, -1, -1))[-1]
    for bands in (1, 6):
        backbone = build(kind, bands, base, feedback_from=None)
        backbone.init_weights()
        output = backbone.eval()(gray.expand(-1, bands, -1, -1))[-1]
        assert (output - expected).abs().max() < 1e-3 * expected.abs().max()


@kinds
def test_a_new_stem_trains_and_is_in_the_task_file(kind, base):
    """Also without feedback; the gradient is that of finite differences."""
    frozen = trained(build(kind, 3, base, feedback_from=None))
    linear = build(kind, 6, base, feedback_from=None)
    assert trained(linear) == [*frozen, STEMS[kind]]
    source = build(kind, 6, base)
    assert {*trained(source)} == {*trained(build(kind, 3, base)), STEMS[kind]}
    source.init_weights()
    source.double()
    scatter(source.topdown)
    source.train()
    x = images(6).double()
    source(x)[-1].square().sum().backward()
    stem = source.get_parameter(STEMS[kind])
    place = stem.grad.abs().flatten().argmax()
    values = []
    for step in (1e-6, -1e-6):
        stem.data.view(-1)[place] += step
        values.append(source(x)[-1].square().sum().item())
        stem.data.view(-1)[place] -= step
    numeric = (values[0] - values[1]) / 2e-6
    assert stem.grad.flatten()[place].item() == pytest.approx(numeric, rel=1e-4)

    source.float().eval()
    stem.data.normal_()
    weights = task_file(source)
    assert STEMS[kind] in weights
    backbone = build(kind, 6)  # its base is found by the file
    backbone.eval().load_state_dict(weights)
    assert all(map(torch.equal, backbone(images(6)), source(images(6))))


@kinds
def test_a_stem_that_stays_frozen_is_not_in_the_task_file(kind, base):
    if kind == 'mixer':
        pytest.skip('has no such argument')
    source = build(kind, 6, base, tune_stem=False)
    assert trained(source) == trained(build(kind, 3, base))
    source.init_weights()
    weights = task_file(source.eval())
    assert STEMS[kind] not in weights
    backbone = build(kind, 6, tune_stem=False).eval()
    backbone.load_state_dict(weights)
    assert torch.equal(backbone.get_parameter(STEMS[kind]), source.get_parameter(STEMS[kind]))
    assert all(map(torch.equal, backbone(images(6)), source(images(6))))


def test_a_stem_of_three_bands_can_train():
    backbone = build('vit', 3, tune_stem=True, feedback_from=None)
    assert trained(backbone) == [STEMS['vit']] and backbone.tuned
    with pytest.raises(ValueError, match=r'frozen=False tunes everything, .* leave out tune_stem'):
        build('vit', 6, tune_stem=True, frozen=False)


@pytest.mark.parametrize('feedback_from', [None, 'last'])
@pytest.mark.parametrize(
    'tuning',
    [dict(type='toast_mm.LoRA', rank=2), dict(type='toast_mm.SSF'), dict(type='toast_mm.BitFit')],
)
@pytest.mark.parametrize('kind', ['vit', 'stages'])
def test_methods_beside_a_new_stem(kind, base, tuning, feedback_from):
    arguments = dict(tuning=tuning, feedback_from=feedback_from)
    source = build(kind, 6, base, **arguments)
    assert {*trained(source)} == {STEMS[kind], *trained(build(kind, 3, base, **arguments))}
    source.init_weights()
    for parameter in source.parameters():
        parameter.data += 0.05 * float(parameter.requires_grad)
    output = source.eval()(images(6))[-1]
    backbone = build(kind, 6, **arguments).eval()
    backbone.load_state_dict(task_file(source))
    assert torch.equal(backbone(images(6))[-1], output)
    if tuning['type'] != 'toast_mm.BitFit':
        torch.testing.assert_close(source.merge()(images(6))[-1], output, rtol=1e-3, atol=1e-3)


@kinds
def test_other_bands_are_told(kind, base, tmp_path):
    backbone = build(kind, 6, base)
    backbone.init_weights()
    with pytest.raises(ValueError, match=r'images have 4 bands, but .*in_channels=6: the two must'):
        backbone(images(4))
    with pytest.raises(ValueError, match='images have 4 bands'):
        backbone.run_first_pass(images(4))
    for other in (3, 2):
        with pytest.raises(CheckpointError, match=f'with in_channels=6, and .*in_channels={other}'):
            build(kind, other).load_state_dict(task_file(backbone))
        with pytest.raises(CheckpointError, match=f'for images of 6 bands .*in_channels={other}'):
            build(kind, other).load_state_dict(backbone.state_dict())
    file = str(tmp_path / 'topdown.safetensors')
    save_pretuned(backbone, file)
    rgb = build(kind, 3, base, pretuned=file)
    with pytest.raises(CheckpointError, match=r'tuned with in_channels=6, .* in_channels=3'):
        rgb.init_weights()


def test_a_file_of_other_bands_is_fitted_only_from_three(tmp_path):
    torch.save(build('vit', 6, feedback_from=None).state_dict(), tmp_path / 'six.pth')
    backbone = build('vit', 6, str(tmp_path / 'six.pth'), feedback_from=None)
    backbone.init_weights()
    stem = torch.load(tmp_path / 'six.pth')[STEMS['vit']]
    assert torch.equal(backbone.get_parameter(STEMS['vit']), stem)
    for bands in (3, 4):
        with pytest.raises(CheckpointError, match=rf'six\.pth.*of 6 bands .*in_channels={bands}'):
            build('vit', bands, str(tmp_path / 'six.pth')).init_weights()


@kinds
def test_a_module_of_a_fixed_stem_is_loaded(kind, base, tmp_path):
    if kind == 'mixer':
        pytest.skip('has no such argument')
    source = build(kind, 6, base, tune_stem=False)
    source.init_weights()
    scatter(source.topdown)
    save_pretuned(source, str(tmp_path / 'topdown.safetensors'))
    backbone = build(kind, 6, base)  # whose stem trains from here on
    backbone.init_weights()
    load_pretuned(backbone, str(tmp_path / 'topdown.safetensors'))
    for name, tensor in source.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], tensor), name


@pytest.mark.parametrize('stride', [4, 8])
def test_a_stem_of_many_convolutions(stride, tmp_path):
    sizes = dict(KINDS['vit'][2], patch_size=stride, patch_cfg=dict(conv_type='toast_mm.ConvStem'))
    torch.save(TOASTViT(**sizes, feedback_from=None).state_dict(), tmp_path / 'base.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth'))
    backbone = TOASTViT(**sizes, in_channels=2, init_cfg=init_cfg, feedback_from=None)
    backbone.init_weights()
    first = 'patch_embed.projection.0.conv.weight'
    assert trained(backbone) == [first]
    source = torch.load(tmp_path / 'base.pth')[first]
    torch.testing.assert_close(backbone.get_parameter(first), fitted(source, 2))


def test_weights_of_the_hub(hub):
    name, sizes = 'vit_tiny_patch16_224', dict(embed_dim=48, depth=2, num_heads=4, img_size=32)
    torch.manual_seed(0)
    weights = timm.create_model(name, **sizes).state_dict()
    hub.add(f'timm/{name}.augreg_in21k_ft_in1k', model=save(weights))
    backbone = TOASTTimm(name, pretrained=True, in_channels=6, **sizes)
    backbone.init_weights()
    own = backbone.get_parameter('model.patch_embed.proj.weight')
    torch.testing.assert_close(own, fitted(weights['patch_embed.proj.weight'], 6))
    twin = timm.create_model(name, in_chans=6, num_classes=0, **sizes)
    assert own.shape == twin.patch_embed.proj.weight.shape
    assert own.requires_grad
    for model_name in (name, 'resnet18'):
        with pytest.raises(ValueError, match='in_chans=6: say in_channels instead'):
            TOASTTimm(model_name, in_chans=6)


@pytest.mark.parametrize(
    'name',
    [
        'resnet26d',  # a stem of three convolutions
        'swin_tiny_patch4_window7_224',
        'regnety_002',
        'mobilenetv3_small_050',
        'vit_small_patch14_reg4_dinov2',
    ],
)
def test_the_stem_is_that_of_timm(name):
    with torch.device('meta'):
        backbone = TOASTTimm(name, in_channels=5)
    assert backbone.stem_weight == f'model.{backbone.model.pretrained_cfg["first_conv"]}.weight'


def test_tasks_with_a_stem_of_their_own_share_no_first_pass():
    assert shares_first_pass(build('vit', 6, tune_stem=False))
    assert not shares_first_pass(build('vit', 6))


def test_a_first_pass_through_a_trained_stem_is_not_cached():
    model = nn.Module()
    model.backbone = build('stages', 2)
    with pytest.raises(ValueError, match=r'first_pass_cache: model\.stem\.0\.weight and 0 other'):
        FirstPassCacheHook._check(model)
