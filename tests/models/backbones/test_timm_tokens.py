"""TOAST on Vision Transformers of timm: against timm's own models, and against the equations."""

import copy
import pickle
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import save_checkpoint
from safetensors.torch import save_file
from timm.models.vision_transformer import ParallelScalingBlock
from torch import nn
from torch.utils.checkpoint import checkpoint

from toast_mm.checkpoint import CheckpointError
from toast_mm.models import TOASTTimm

SIZES = dict(embed_dim=48, depth=3, num_heads=4)
MODELS = {
    'ViT': ('vit_tiny_patch16_224', {}),
    'DeiT III': ('deit3_small_patch16_224', {}),
    'MAE': ('vit_base_patch16_224', dict(global_pool='avg')),
    'CLIP': ('vit_base_patch16_clip_224', {}),
    'SigLIP': ('vit_base_patch16_siglip_224', {}),
    'DINOv2': ('vit_small_patch14_dinov2', {}),
    'DINOv2 with registers': ('vit_small_patch14_reg4_dinov2', {}),
    'DINOv3': ('vit_small_patch16_dinov3', {}),
    'DINOv3 with a bias': ('vit_small_patch16_dinov3_qkvb', {}),
    'EVA-02 tiny': ('eva02_tiny_patch14_224', {}),
    'EVA-02': ('eva02_base_patch14_224', {}),
    'Perception Encoder': ('vit_pe_core_tiny_patch16_384', {}),
    'mixed RoPE': ('vit_small_patch16_rope_mixed_224', {}),
    'norms of queries and keys': ('vit_tiny_patch16_224', dict(qk_norm=True, scale_attn_norm=True)),
    'norms behind': ('vit_base_patch16_rpn_224', {}),
    'shared keys and values': (
        'vit_small_patch16_rope_224',
        dict(num_kv_heads=2, qkv_fused=False),
    ),
}
models = pytest.mark.parametrize('model', MODELS)


def make(model='DINOv2 with registers', seed=0, **arguments):
    name, settings = MODELS[model]
    patch = 14 if 'patch14' in name else 16
    backbone = TOASTTimm(
        name,
        **{'out_type': 'raw', 'img_size': (3 * patch, 2 * patch), **SIZES, **settings, **arguments},
    ).double()
    torch.manual_seed(seed)
    for key, parameter in backbone.named_parameters():
        scale = parameter.ndim == 1 and key.endswith('weight')
        nn.init.normal_(parameter, mean=float(scale), std=0.3)
    return backbone.eval()


def image(backbone, rows=3, columns=2):
    height, width = backbone.patch_size
    generator = torch.Generator().manual_seed(1)
    size = (2, 3, rows * height, columns * width)
    return torch.randn(size, generator=generator, dtype=torch.double)


@pytest.mark.parametrize('grid', [(3, 2), (2, 5)])
@models
def test_without_feedback_it_is_timms_model(model, grid):
    """Bit for bit, at the size that it is built for and at another one."""
    backbone = make(model, feedback_from=None, out_indices=[0, 1, 2])
    images, prefix = image(backbone, *grid), backbone.tokens.extra
    final, blocks = backbone.model.forward_intermediates(
        images, output_fmt='NLC', return_prefix_tokens=prefix > 0
    )
    expected = [torch.cat(block[::-1], 1) if prefix else block for block in blocks]
    assert all(map(torch.equal, backbone(images), [*expected[:2], final]))
    maps = make(model, feedback_from=None, out_type='featmap')(images)[0]
    assert torch.equal(maps, final[:, prefix:].transpose(1, 2).unflatten(2, grid))
    if prefix:
        token = make(model, feedback_from=None, out_type='cls_token')(images)[0]
        assert torch.equal(token, final[:, 0])


def rotated(x, rope, half):
    """Rotary embeddings: pairs of channels are turned by the angle of their place."""
    sine, cosine = rope.chunk(2, -1)
    if half:
        first, second = x.chunk(2, -1)
        turned = torch.cat((-second, first), -1)
    else:
        turned = torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    return x * cosine + turned * sine


def projections(attn):
    """Weight and bias of queries, keys and values."""
    if attn.qkv is None:
        layers = [getattr(attn, f'{name}_proj') for name in 'qkv']
        return [(layer.weight, layer.bias) for layer in layers]
    width = attn.qkv.out_features // 3
    biases = [None] * 3 if attn.qkv.bias is None else attn.qkv.bias.split(width)
    if getattr(attn, 'q_bias', None) is not None:
        biases = [attn.q_bias, None, attn.v_bias]
    return [*zip(attn.qkv.weight.split(width), biases, strict=True)]


def heads(attn, tokens):
    return tokens.unflatten(-1, (-1, attn.head_dim)).transpose(1, 2)


def reference_weights(attn, x, rope):
    """The softmax ``(B, heads, N, N)``, from the equations."""
    query, key, _ = projections(attn)
    q, k = (
        attn.q_norm(heads(attn, F.linear(x, *query))),
        attn.k_norm(heads(attn, F.linear(x, *key))),
    )
    if rope is not None:
        extra = attn.num_prefix_tokens
        q, k = (
            torch.cat(
                (part[:, :, :extra], rotated(part[:, :, extra:], rope, attn.rotate_half)), dim=2
            )
            for part in (q, k)
        )
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    return (q @ k.transpose(-2, -1) / attn.head_dim**0.5).softmax(-1)


def reference_attention(attn, x, signal, rope):
    """Attention with a signal on its values, from the equations."""
    weights, value = reference_weights(attn, x, rope), projections(attn)[2]
    v = F.linear(x, *value)
    if signal is not None:
        v = v + F.linear(signal, *value)  # the bias enters twice, as published
    v = heads(attn, v)
    v = v.repeat_interleave(weights.shape[1] // v.shape[1], 1)
    out = attn.norm((weights @ v).transpose(1, 2).flatten(2))
    return attn.proj(out if attn.gate is None else out * attn.gate(x).sigmoid())


def rope_of(backbone, number, grid):
    if not hasattr(backbone.model.blocks[number].attn, 'rotate_half'):
        return None
    rope = backbone.model.rope.get_embed(shape=grid)
    return rope[number] if backbone.model.rope_mixed else rope


def reference_block(backbone, number, x, signal, grid):
    block, rope = backbone.model.blocks[number], rope_of(backbone, number, grid)
    first = getattr(block, 'ls1', None) or (lambda part: part * (block.gamma_1 if scaled else 1.0))
    second = getattr(block, 'ls2', None) or (lambda part: part * (block.gamma_2 if scaled else 1.0))
    scaled = getattr(block, 'gamma_1', None) is not None
    if 'Post' in type(block).__name__:
        x = x + block.norm1(reference_attention(block.attn, x, signal, rope))
        return x + block.norm2(block.mlp(x))
    x = x + first(reference_attention(block.attn, block.norm1(x), signal, rope))
    return x + second(block.mlp(block.norm2(x)))


def reference(backbone, images):
    """Both passes from the equations, and the signals."""
    x, grid = backbone.embed(images)
    entering = x
    for number in range(backbone.route.feedback_from):
        x = reference_block(backbone, number, x, None, grid)
    z = backbone.model.norm(x) if backbone.route.reads_output else x
    selection = backbone.topdown.selection
    mask = F.cosine_similarity(z, selection.task_embedding, dim=-1).clamp(0, 1)
    down = mask[..., None] * z @ selection.channel_transform
    signals = {}
    for number in reversed(backbone.route.receivers):
        layer = backbone.topdown.feedback.layers[str(number)]
        down = layer.descend(down)
        signals[number] = layer.emit(down)
    x = entering
    for number in range(backbone.depth):
        x = reference_block(backbone, number, x, signals.get(number), grid)
    return backbone.model.norm(x)


@pytest.mark.parametrize('source', ['last', 'middle'])
@models
def test_steered_outputs_and_gradients(model, source):
    """Against the equations, and what the signal changes."""
    backbone = make(model, feedback_from=source)
    images = image(backbone)
    with torch.no_grad(), backbone.recording() as record:
        backbone(images)
    backbone.topdown.selection.task_embedding.data = record.z.mean((0, 1))  # selects something
    parameters = dict(backbone.topdown.named_parameters())
    results = []
    for output in (backbone(images)[0], reference(backbone, images)):
        gradients = torch.autograd.grad(output.sin().sum(), parameters.values())
        results.append((output, *gradients))
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() <= 1e-10 * other.abs().max()
    assert all(gradient.any() for gradient in results[0][1:])
    assert not torch.allclose(results[0][0], make(model, feedback_from=None)(images)[0])


@models
def test_signal_ratio(model):
    """Of the values, without the bias that enters twice."""
    backbone = make(model)
    x, _ = backbone.embed(image(backbone))
    signal = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    block = backbone.model.blocks[1]
    weight, bias = projections(block.attn)[2]
    normed = x if 'Post' in type(block).__name__ else block.norm1(x)
    expected = F.linear(signal, weight).norm() / F.linear(normed, weight, bias).norm()
    assert backbone.signal_ratio(1, x, signal) == pytest.approx(expected.item())


@models
def test_attention_to_the_patches(model):
    """That of the class token, or the mean over the patches; other tokens are left out."""
    backbone = make(model)
    extra = {'ViT': 1, 'MAE': 1, 'SigLIP': 0, 'DINOv2 with registers': 5, 'DINOv3': 5}
    assert backbone.tokens.extra == extra.get(model, backbone.tokens.extra)
    x, grid = backbone.embed(image(backbone))
    for number, block in enumerate(backbone.model.blocks):
        normed = x if 'Post' in type(block).__name__ else block.norm1(x)
        weights = reference_weights(block.attn, normed, rope_of(backbone, number, grid))
        start = backbone.tokens.extra
        without = model in ('SigLIP', 'norms behind')  # of a class token
        rows = weights[:, :, start:].mean(2) if without else weights[:, :, 0]
        expected = rows[:, :, start:].reshape(2, -1, *grid)
        torch.testing.assert_close(backbone.attention(number, x, grid), expected)
        assert block.attn.fused_attn and not block.attn.attn_drop._forward_pre_hooks
        x = reference_block(backbone, number, x, None, grid)


@pytest.mark.parametrize(
    ('model', 'resized', 'updated'),
    [
        ('DINOv2', ('model.pos_embed',), ('attn.qkv',)),
        ('DINOv3', (), ('attn.qkv',)),
        ('EVA-02', ('model.pos_embed',), ('attn.q_proj', 'attn.k_proj', 'attn.v_proj')),
    ],
)
def test_what_it_says_of_its_weights(model, resized, updated):
    backbone = make(model)
    assert (backbone.resized_parameters, backbone.lora_targets) == (resized, updated)
    assert all(backbone.get_parameter(name) is not None for name in resized)


@models
def test_folded(model):
    backbone = make(model)
    nn.init.normal_(backbone.topdown.selection.task_embedding)
    images = image(backbone)
    expected = backbone(images)[0]
    torch.testing.assert_close(backbone.fold()(images)[0], expected)
    for layer in backbone.topdown.feedback.layers.values():
        assert (layer.out_features, layer.in_features) == layer.weight.shape


@pytest.mark.filterwarnings('ignore:None of the inputs have requires_grad')  # the first pass
@pytest.mark.parametrize('use_reentrant', [True, False])
@pytest.mark.parametrize('model', ['DINOv2 with registers', 'DINOv3', 'EVA-02 tiny'])
def test_activation_checkpointing_repeats_the_signal(model, use_reentrant):
    """As mmengine's turn_on_activation_checkpointing does it."""
    backbone, other = make(model).train(), make(model).train()
    for layer in other.model.blocks:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=use_reentrant)
    gradients = []
    for one in (backbone, other):
        one(image(one))[0].sin().sum().backward()
        gradients.append([parameter.grad for parameter in one.topdown.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.slow
@pytest.mark.parametrize('model', ['DINOv2 with registers', 'DINOv3', 'EVA-02 tiny'])
def test_it_compiles_to_one_graph(model):
    torch._dynamo.reset()
    backbone = make(model)
    images = image(backbone)
    compiled = torch.compile(backbone, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(images)[0], backbone(images)[0])


@pytest.mark.parametrize('copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize('model', ['DINOv2', 'EVA-02 tiny'])
def test_a_copy_steers_by_its_own_signal(model, copied):
    backbone = make(model)
    images = image(backbone)
    expected = backbone(images)[0]
    twin = copied(backbone)
    assert torch.equal(twin(images)[0], expected)
    nn.init.zeros_(backbone.topdown.selection.channel_transform)
    assert torch.equal(twin(images)[0], expected)
    assert not torch.equal(backbone(images)[0], expected)


def test_a_failure_leaves_no_signal_behind(monkeypatch):
    backbone = make('EVA-02 tiny', feedback_from=None)
    images = image(backbone)
    expected = backbone(images)[0]
    steered = make('EVA-02 tiny')
    layer = steered.model.blocks[1]
    with monkeypatch.context() as patch:
        patch.setattr(layer.mlp, 'forward', lambda x: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            layer(steered.embed(images)[0], torch.ones(2, 7, 48, dtype=torch.double))
    assert layer.attn.value_input.values is None and not layer.attn.qkv_bias_separate
    steered.topdown = None
    assert torch.equal(steered(images)[0], expected)


class TestWeights:
    @pytest.mark.parametrize('suffix', ['pth', 'safetensors'])
    @pytest.mark.parametrize('model', ['DeiT III', 'DINOv3', 'SigLIP', 'EVA-02'])
    def test_files_of_timm_load_as_they_are(self, model, suffix, tmp_path):
        """With a classifier, which is left out."""
        name, settings = MODELS[model]
        backbone = make(model)
        torch.manual_seed(3)
        source = timm.create_model(
            name, num_classes=5, img_size=backbone.model.patch_embed.img_size, **SIZES, **settings
        )
        path = str(tmp_path / f'timm.{suffix}')
        save_file(source.state_dict(), path) if suffix == 'safetensors' else torch.save(
            source.state_dict(), path
        )
        backbone = make(model, init_cfg=dict(type='Pretrained', checkpoint=path)).float()
        backbone.init_weights()
        own = backbone.state_dict()
        shared = [n for n in source.state_dict() if f'model.{n}' in own]
        assert len(shared) == len([n for n in own if n.startswith('model.')])
        assert all(torch.equal(own[f'model.{n}'], source.state_dict()[n]) for n in shared)

    def test_positions_of_another_grid_are_resized(self, tmp_path):
        source = make(img_size=(56, 56))
        torch.save(source.model.state_dict(), tmp_path / 'timm.pth')
        base = dict(type='Pretrained', checkpoint=str(tmp_path / 'timm.pth'))
        backbone = make(init_cfg=base)
        backbone.init_weights()
        assert backbone.model.pos_embed.shape == (1, 6, 48)
        expected = timm.layers.resample_abs_pos_embed(
            source.model.pos_embed, (3, 2), num_prefix_tokens=0
        )
        assert torch.equal(backbone.model.pos_embed, expected)

    def test_less_is_refused(self, tmp_path):
        weights = make().model.state_dict()
        del weights['blocks.1.norm1.weight']
        torch.save(weights, tmp_path / 'part.pth')
        base = dict(type='Pretrained', checkpoint=str(tmp_path / 'part.pth'))
        with pytest.raises(CheckpointError, match=r'missing: model\.blocks\.1\.norm1\.weight'):
            make(init_cfg=base).init_weights()

    def test_another_family_is_refused(self, tmp_path):
        torch.save(timm.create_model('resnet10t').state_dict(), tmp_path / 'resnet.pth')
        base = dict(type='Pretrained', checkpoint=str(tmp_path / 'resnet.pth'))
        with pytest.raises(
            CheckpointError, match=r'init_cfg with .*resnet\.pth.* another kind of backbone'
        ):
            make(init_cfg=base).init_weights()

    def test_a_checkpoint_of_the_whole_model(self, tmp_path):
        backbone, other = make(), make(seed=1)
        path = str(tmp_path / 'whole.pth')
        save_checkpoint(dict(state_dict=backbone.state_dict()), path)
        load_checkpoint(other, path, strict=True)
        assert torch.equal(other(image(other))[0], backbone(image(backbone))[0])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            dict(model_name='vit_base_patch16_dinov33'),
            r'no model of timm; .*vit_base_patch16_dinov3',
        ),
        (dict(model_name='vgg11'), r"'vgg11' is a VGG; .* VisionTransformer, Eva"),
        (dict(model_name='beit_base_patch16_224'), r'is a Beit; .* VisionTransformer, Eva'),
        (
            dict(model_name='vit_tiny_patch16_224', attn_layer='diff', depth=1),
            r'model\.blocks\.0\.attn is a DiffAttention; .* fits Attention, AttentionRope, EvaAtt',
        ),
        (
            dict(model_name='vit_tiny_patch16_224', block_fn=ParallelScalingBlock, depth=1),
            r'model\.blocks\.0 is a ParallelScalingBlock; .* fits Block, ResPostBlock, EvaBlock',
        ),
        (dict(model_name=3), 'model_name=3 must be str'),
        (dict(model_name='vit_tiny_patch16_224', sizes=3), "unexpected keyword argument 'sizes'"),
        (dict(model_name='vit_base_patch16_siglip_224', depth=1), 'has no class token; it gives'),
        (
            dict(model_name='vit_tiny_patch16_224', out_type='map'),
            "'map' is none of raw",
        ),
        (
            dict(model_name='vit_tiny_patch16_224', patch_drop_rate=0.5),
            'patch_drop_rate=0.5',
        ),
        (
            dict(model_name='vit_tiny_patch16_224', out_indices=[12]),
            r'out_indices=\[12\] must',
        ),
    ],
)
def test_what_does_not_fit_says_so(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        TOASTTimm(**arguments)


def test_an_image_that_the_patch_does_not_divide():
    backbone = make()
    with pytest.raises(ValueError, match=r'images of 42 x 30 pixels .* patches of 14 x 14: resize'):
        backbone(torch.zeros(1, 3, 42, 30, dtype=torch.double))
    with pytest.raises(ValueError, match=r'images of 30 x 30 pixels .* patches of 14 x 14: resize'):
        make(img_size=30)
    padded = make(dynamic_img_pad=True, out_type='featmap')
    assert padded(torch.zeros(1, 3, 42, 30, dtype=torch.double))[0].shape == (1, 48, 3, 3)
