"""TOAST on timm's models of stages: against timm's own models, and against the equations."""

import copy
import pickle
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.layers import DropPath, resize_rel_pos_bias_table_simple
from torch import nn
from torch.utils.checkpoint import checkpoint

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.adapter import frozen_base
from toast_mm.models import TOASTTimm
from toast_mm.models.backbones.timm_stages import SteeredStage
from toast_mm.registry import MODELS

CONVNEXT = dict(dims=(6, 8, 8, 12), depths=(1, 2, 1, 1))
SWIN = dict(embed_dim=8, depths=(2, 2, 1, 1), num_heads=(1, 2, 2, 2))
MODELS_OF_TIMM = {
    'ConvNeXt': ('convnext_tiny', CONVNEXT),
    'ConvNeXt v2': ('convnextv2_tiny', CONVNEXT),
    'ConvNeXt of DINOv3': ('convnext_tiny.dinov3_lvd1689m', CONVNEXT),
    'ConvNeXt with a norm of maps': ('convnext_tiny', CONVNEXT | dict(head_norm_first=True)),
    'Swin': ('swin_tiny_patch4_window7_224', SWIN),
    'Swin v2': ('swinv2_tiny_window8_256', SWIN),
    'ResNet': ('test_resnet', {}),
    'RegNet': ('regnety_002', dict(w0=8, wa=12.0, wm=2.0, group_size=4, depth=5)),
    'EfficientNet': ('test_efficientnet', {}),
    'MobileNet': ('mobilenetv3_small_050', {}),
}
models = pytest.mark.parametrize('model', MODELS_OF_TIMM)
few = pytest.mark.parametrize('model', ['ConvNeXt', 'Swin', 'ResNet', 'MobileNet'])
SIZES = [(64, 64), (45, 71)]


def make(model='EfficientNet', seed=0, **arguments):
    name, settings = MODELS_OF_TIMM[model]
    backbone = TOASTTimm(model_name=name, **settings, **arguments).double()
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in backbone.named_parameters():
        scale = parameter.ndim == 1 and key.endswith('weight')
        std = 0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
        values = std * torch.randn(parameter.shape, generator=generator, dtype=torch.double)
        parameter.data = values + float(scale)
    for key, buffer in backbone.named_buffers():
        if 'running' in key:
            values = torch.rand(buffer.shape, generator=generator, dtype=torch.double)
            buffer.copy_(values + float(key.endswith('var')))
    return backbone.eval()


def image(size=(45, 71)):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, *size, generator=generator, dtype=torch.double)


@pytest.mark.parametrize('size', SIZES)
@models
def test_without_feedback_it_is_timms_model(model, size):
    """Bit for bit, at a size that the strides divide and at another one."""
    depth = len(make(model).model.feature_info)
    backbone = make(model, feedback_from=None, out_indices=range(depth))
    expected = backbone.model.forward_intermediates(image(size), norm=True, intermediates_only=True)
    outputs = backbone(image(size))
    assert len(outputs) == len(expected) and all(map(torch.equal, outputs, expected))
    pooled = make(model, feedback_from=None, out_type='avg_featmap', out_indices=[1, depth - 1])
    middle, last = pooled(image(size))
    torch.testing.assert_close(middle, expected[1].mean((2, 3)))
    assert torch.equal(last, pooled.model(image(size)))


def blocks_of(model):
    """What timm's models run between two reductions, as their authors drew them."""

    def then(*layers):
        return nn.Sequential(*layers)

    kind = type(model).__name__
    if kind == 'ConvNeXt':
        return [then(model.stem, model.stages[0]), *model.stages[1:]]
    if kind == 'ResNet':
        stem = then(model.conv1, model.bn1, model.act1)
        return [stem, then(model.maxpool, model.layer1), model.layer2, model.layer3, model.layer4]
    if kind == 'RegNet':
        return [model.stem, model.s1, model.s2, model.s3, model.s4]
    if kind.startswith('Swin'):
        return [
            lambda x: model.layers[0](model.patch_embed(x)).permute(0, 3, 1, 2),
            *(
                lambda x, stage=stage: stage(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
                for stage in model.layers[1:]
            ),
        ]
    stem, parts, start = [model.conv_stem, model.bn1], [], 0
    for end in model.stage_ends:
        parts.append(then(*stem, *model.blocks[start:end]))
        stem, start = [], end
    return parts


def normed_last(model, x):
    """The last map through the norm that its model has."""
    kind = type(model).__name__
    if kind.startswith('Swin'):
        return model.norm(x.permute(0, 2, 3, 1))
    if kind == 'ConvNeXt':
        norm = model.head.norm if isinstance(model.norm_pre, nn.Identity) else model.norm_pre
        return norm(x).permute(0, 2, 3, 1)
    return plain_norm(x)


def plain_norm(x):
    variance, mean = torch.var_mean(x, 1, unbiased=False, keepdim=True)
    return ((x - mean) / (variance + 1e-6).sqrt()).permute(0, 2, 3, 1)


def fitted(hidden, size):
    """The last values go on, or are cut off."""
    for dim, wanted in ((2, size[0]), (3, size[1])):
        places = torch.arange(wanted).clamp(max=hidden.shape[dim] - 1)
        hidden = hidden.index_select(dim, places)
    return hidden


def reference(backbone, images):
    """Both passes from the equations, up to the last map."""
    blocks, route = blocks_of(backbone.model), backbone.route
    x, entering = images, []
    for block in blocks[: route.feedback_from]:
        entering.append(x)
        x = block(x)
    z = normed_last(backbone.model, x) if route.feedback_from == len(blocks) else plain_norm(x)
    selection = backbone.topdown.selection
    mask = F.cosine_similarity(z, selection.task_embedding, dim=-1).clamp(0, 1)
    chosen = mask[..., None] * x.permute(0, 2, 3, 1) @ selection.channel_transform
    hidden, signals = chosen.permute(0, 3, 1, 2), {}
    for number in reversed(route.receivers):
        layer = backbone.topdown.feedback.layers[str(number)]
        squares = torch.einsum('bihw,ioyx->bohywx', hidden, layer.descend.weight)
        hidden = fitted(squares.flatten(4, 5).flatten(2, 3), entering[number].shape[2:])
        signals[number] = torch.einsum('oi,bihw->bohw', layer.emit.weight.flatten(1), hidden)
    x = entering[route.feedback_to]
    for number in range(route.feedback_to, len(blocks)):
        x = blocks[number](x + signals[number] if number in signals else x)
    return x


@pytest.mark.parametrize(('source', 'target'), [('last', 'first'), ('middle', 1)])
@models
def test_steered_outputs_and_gradients(model, source, target):
    """Against the equations, at a size that some strides do not divide."""
    backbone = make(model, feedback_from=source, feedback_to=target)
    images = image()
    with torch.no_grad(), backbone.recording() as record:
        backbone(images)
    backbone.topdown.selection.task_embedding.data = record.z.mean((0, 1, 2))  # selects something
    parameters = dict(backbone.topdown.named_parameters())
    expected = reference(backbone, images)
    if backbone.family.norm:
        expected = backbone._to_layout(expected)
        expected = backbone.model.get_submodule(backbone.family.norm)(expected)
        expected = backbone._from_layout(expected)
    results = []
    for output in (backbone(images)[0], expected):
        gradients = torch.autograd.grad(output.sin().sum(), parameters.values())
        results.append((output, *gradients))
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() <= 1e-9 * other.abs().max()
    assert all(gradient.any() for gradient in results[0][1:])
    assert not torch.allclose(results[0][0], make(model, feedback_from=None)(images)[0])


@models
def test_folded(model):
    backbone = make(model, token_selection=False)
    expected = backbone(image())[0]
    torch.testing.assert_close(backbone.fold()(image())[0], expected)


@few
def test_drop_path_acts_in_the_second_pass_only(model):
    backbone = make(model, drop_path_rate=0.5).train()
    modes, drops = [], [m for m in backbone.modules() if isinstance(m, DropPath)]
    for module in drops:
        module.register_forward_hook(lambda module, *_: modes.append(module.training))
    backbone(image())
    first, second = modes[: len(modes) // 2], modes[len(modes) // 2 :]
    assert len(first) == len(second) > 1 and not any(first) and all(second)


@pytest.mark.parametrize(
    'arguments',
    [
        {},
        dict(feedback_from=None, tuning=dict(type='toast_mm.BitFit')),
        dict(tuning=dict(type='toast_mm.Partial')),
    ],
)
@pytest.mark.parametrize('model', ['ResNet', 'RegNet', 'EfficientNet', 'MobileNet'])
def test_statistics_stay(model, arguments):
    backbone = make(model, **arguments).train()
    before = copy.deepcopy(backbone.state_dict())
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=0.01, weight_decay=0.1)
    backbone(image())[0].square().mean().backward()
    optimizer.step()
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
    after = backbone.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == trained


@pytest.mark.parametrize('frozen', [True, False])
def test_task_files_leave_out_the_statistics_of_the_base(frozen):
    """But not those that train."""
    backbone = make('EfficientNet', frozen=frozen)
    statistics = {name for name, _ in backbone.named_buffers()}
    assert 'model.bn1.running_mean' in statistics
    assert statistics & set(frozen_base(backbone)) == (statistics if frozen else set())


@pytest.mark.parametrize(
    ('arguments', 'trains'),
    [
        (dict(out_type='avg_featmap'), True),
        (dict(out_type='featmap'), False),
        (dict(out_type='avg_featmap', out_indices=[3]), False),
    ],
)
@pytest.mark.parametrize(
    ('model', 'head'), [('EfficientNet', 'conv_head'), ('MobileNet', 'conv_head')]
)
def test_a_head_trains_where_it_is_used(model, head, arguments, trains):
    """Otherwise DDP would wait for its gradients."""
    backbone = make(model, frozen=False, **arguments)
    assert backbone.model.get_submodule(head).weight.requires_grad is trains
    backbone(image())[0].sum().backward()
    missing = {n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None}
    assert missing == set()


@pytest.mark.parametrize(('source', 'trains'), [('last', True), ('middle', False)])
def test_the_read_out_may_need_the_norm_of_a_head(source, trains):
    backbone = make('ConvNeXt', frozen=False, feedback_from=source)
    assert backbone.model.head.norm.weight.requires_grad is trains


@pytest.mark.filterwarnings('ignore:None of the inputs have requires_grad')  # the first pass
@pytest.mark.parametrize('use_reentrant', [True, False])
@few
def test_activation_checkpointing_repeats_the_modes(model, use_reentrant):
    """As mmengine's turn_on_activation_checkpointing does it."""
    gradients = []
    for wrapped in (False, True):
        backbone = make(model, drop_path_rate=0.5, token_selection=False).train()
        stages = [layer for layer in backbone.modules() if isinstance(layer, SteeredStage)]
        for stage in stages if wrapped else []:
            stage.forward = partial(checkpoint, stage.forward, use_reentrant=use_reentrant)
        torch.manual_seed(5)
        backbone(image())[0].sin().sum().backward()
        gradients.append([parameter.grad for parameter in backbone.topdown.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.slow
@pytest.mark.parametrize('model', ['ResNet', pytest.param('Swin', marks=pytest.mark.slow)])
def test_it_compiles_to_one_graph(model):
    torch._dynamo.reset()
    backbone = make(model, token_selection=False)
    compiled = torch.compile(backbone, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(image())[0], backbone(image())[0])


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize('model', ['ConvNeXt', 'Swin', 'EfficientNet'])
def test_a_copy_is_independent(model, copied):
    backbone = make(model, token_selection=False)
    expected = backbone(image())[0]
    twin = copied(backbone)
    nn.init.zeros_(backbone.topdown.selection.channel_transform)
    assert type(twin) is type(backbone) and isinstance(twin, TOASTTimm)
    assert torch.equal(twin(image())[0], expected)
    assert not torch.equal(backbone(image())[0], expected)


def test_a_config_names_it_as_other_models_of_timm():
    backbone = MODELS.build(dict(type='toast_mm.TOASTTimm', model_name='test_resnet'))
    tokens = MODELS.build(
        dict(type='toast_mm.TOASTTimm', model_name='vit_tiny_patch16_224', depth=1)
    )
    assert isinstance(backbone, TOASTTimm) and isinstance(tokens, TOASTTimm)
    assert type(backbone) is not type(tokens)
    with pytest.raises(TypeError, match='frozen=3 must be bool'):
        TOASTTimm('test_resnet', frozen=3)


class TestMethods:
    @pytest.mark.parametrize('model', ['ConvNeXt', 'Swin', 'Swin v2', 'RegNet', 'MobileNet'])
    def test_lora_is_in_both_passes(self, model):
        """The same as the model that it makes."""
        lora = dict(type='toast_mm.LoRA', rank=2)
        backbone = make(model, token_selection=False, tuning=lora)
        expected = backbone(image())[0]
        without = make(model, token_selection=False)
        assert not torch.allclose(expected, without(image())[0])
        merged = backbone.merge()
        torch.testing.assert_close(merged(image())[0], expected)
        without.load_state_dict(merged.state_dict())
        torch.testing.assert_close(without(image())[0], expected)

    @pytest.mark.parametrize('model', ['ResNet', 'EfficientNet', 'MobileNet'])
    def test_bitfit_tunes_all_biases(self, model):
        backbone = make(model, feedback_from=None, tuning=dict(type='toast_mm.BitFit'))
        head = tuple(f'model.{name}' for name in ('conv_head', 'bn2'))
        names = {name for name, p in backbone.named_parameters() if p.requires_grad}
        biases = {name for name, _ in backbone.named_parameters() if name.endswith('bias')}
        assert names == {name for name in biases if not name.startswith(head)} != set()

    @pytest.mark.parametrize(
        ('model', 'stages'),
        [
            ('ConvNeXt', ('stages.3.',)),
            ('Swin', ('layers.3.', 'norm.')),
            ('ResNet', ('layer4.',)),
            ('EfficientNet', ('blocks.4.',)),
        ],
    )
    def test_partial_tunes_the_last_block(self, model, stages):
        backbone = make(model, feedback_from=None, tuning=dict(type='toast_mm.Partial'))
        for name, parameter in backbone.named_parameters():
            last = name.removeprefix('model.').startswith(stages)
            assert parameter.requires_grad == last, name


class TestWeights:
    @pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
    @models
    def test_files_of_timm_load_as_they_are(self, model, suffix, tmp_path):
        """With a classifier, which is left out."""
        name, settings = MODELS_OF_TIMM[model]
        torch.manual_seed(3)
        source = timm.create_model(name, num_classes=5, **settings).state_dict()
        path = str(tmp_path / f'timm.{suffix}')
        save_file(source, path) if suffix == 'safetensors' else torch.save(source, path)
        backbone = make(model, init_cfg=dict(type='Pretrained', checkpoint=path)).float()
        backbone.init_weights()
        own = {n: t for n, t in backbone.state_dict().items() if n.startswith('model.')}
        shared = [n for n in source if f'model.{n}' in own]
        assert len(shared) == len(own) == len(source) - 2
        assert all(torch.equal(own[f'model.{n}'], source[n]) for n in shared)

    def test_windows_of_another_size_are_resized(self, tmp_path):
        source = make('Swin').model.state_dict()
        old = {'layers.1.blocks.1.attn_mask': torch.zeros(4, 49, 49)}  # in files of old versions
        torch.save(source | old, tmp_path / 'timm.pth')
        base = dict(type='Pretrained', checkpoint=str(tmp_path / 'timm.pth'))
        backbone = make('Swin', img_size=128, init_cfg=base)
        backbone.init_weights()
        name = 'layers.3.blocks.0.attn.relative_position_bias_table'
        own = backbone.model.get_parameter(name)
        assert own.shape == (7 * 7, 2) and source[name].shape == (13 * 13, 2)
        expected = resize_rel_pos_bias_table_simple(source[name], (4, 4), (7 * 7, 2))
        assert torch.equal(own, expected)
        assert f'model.{name}' in backbone.resized_parameters

    @pytest.mark.parametrize('model', ['ConvNeXt', 'Swin', 'EfficientNet'])
    def test_another_family_is_refused(self, model, tmp_path):
        torch.save(timm.create_model('resnet10t').state_dict(), tmp_path / 'resnet.pth')
        base = dict(type='Pretrained', checkpoint=str(tmp_path / 'resnet.pth'))
        with pytest.raises(
            CheckpointError, match=r'init_cfg with .*resnet\.pth.* (another kind|missing)'
        ):
            make(model, init_cfg=base).init_weights()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(model_name='resnet10'), r"'resnet10' is no model of timm; near names: "),
        (
            dict(model_name='vgg11'),
            r"'vgg11' is a VGG; .* ConvNeXt, SwinTransformer, SwinTransformerV2, ResNet, RegNet, "
            r'EfficientNet, MobileNetV3.*',
        ),
        (dict(model_name='test_resnet', out_type='cls_token'), 'is for tokens, but test_resnet'),
        (dict(model_name='test_resnet', out_type='raw'), "it gives 'featmap' and 'avg_featmap'"),
        (dict(model_name='test_resnet', out_type='map'), "'map' is none of featmap, avg_featmap"),
        (dict(model_name='test_resnet', img_size=64), 'img_size=64 is not for test_resnet'),
        (dict(model_name='test_resnet', global_pool='max'), r"global_pool='max' is for class"),
        (dict(model_name='test_resnet', features_only=True), 'features_only=True is not for'),
        (dict(model_name='test_resnet', width=3), "unexpected keyword argument 'width'"),
        (dict(model_name='test_resnet', out_indices=[5]), r'out_indices=\[5\] must'),
        (dict(model_name='test_resnet', feedback_from=6), 'feedback_from=6'),
        (dict(model_name='test_resnet', tuning=dict(type='toast_mm.VPT')), 'has no tokens'),
    ],
)
def test_what_does_not_fit_says_so(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        TOASTTimm(**arguments)
