"""Converted ViTs against timm's, which reads the same files or has the same weights."""

import numpy as np
import pytest
import timm
import torch
from mmpretrain.models import VisionTransformer, VisionTransformerClsHead

from toast_mm.checkpoint import CheckpointError
from toast_mm.checkpoint.convert import convert_vit
from toast_mm.checkpoint.convert.read import read_weights
from toast_mm.checkpoint.convert.vit import _named

DIM, HEADS, DEPTH = 24, 3, 2
SMALL = dict(img_size=32, patch_size=8, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, num_classes=5)


def make_timm(name='vit_tiny_patch16_224', **kwargs):
    torch.manual_seed(0)
    model = timm.create_model(name, **{**SMALL, **kwargs}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def build(converted, **kwargs):
    settings = dict(converted.settings, **kwargs)
    settings['arch'] = dict(settings['arch'], num_heads=HEADS)
    vit = VisionTransformer(**settings, out_type='raw')
    vit.eval()
    backbone = {n[9:]: t for n, t in converted.weights.items() if n.startswith('backbone.')}
    vit.load_state_dict(backbone)
    return vit


def assert_same_features(converted, model, size=32, **kwargs):
    image = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.forward_features(image)
        features = build(converted, **kwargs)(image)[0]
    assert (features - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert not converted.missing


@pytest.mark.parametrize(
    ('name', 'kwargs'),
    [
        ('vit_tiny_patch16_224', {}),
        ('vit_tiny_patch16_224', dict(qkv_bias=False)),
        ('vit_tiny_patch16_224', dict(pre_norm=True)),
        ('vit_tiny_patch16_224', dict(class_token=False, global_pool='avg', fc_norm=False)),
        ('deit3_small_patch16_224', {}),
    ],
)
def test_timm(name, kwargs):
    model = make_timm(name, **kwargs)
    # With a norm before the blocks or without a class token, the file is ambiguous.
    untold = 'pre_norm' in kwargs or 'class_token' in kwargs
    reference = make_timm(name, **kwargs) if untold else None
    converted = convert_vit(model.state_dict(), reference=reference)
    assert_same_features(converted, model)
    assert converted.kind == 'ViT of timm' and not converted.unused
    head = converted.weights['head.layers.head.weight']
    assert torch.equal(head, model.head.weight)
    deit3 = name.startswith('deit3')
    assert ('backbone.pos_embed' in converted.resized) == deit3


def test_deit_says_its_preprocessing():
    converted = convert_vit(make_timm().state_dict(), 'model')
    assert converted.kind == 'ViT of DeiT'
    assert converted.preprocessing['mean'] == [123.675, 116.28, 103.53]
    assert converted.settings == dict(
        arch=dict(embed_dims=DIM, num_layers=DEPTH, feedforward_channels=4 * DIM, num_heads='?'),
        img_size=32,
        patch_size=8,
    )


@pytest.mark.parametrize(('classes', 'mean'), [(21843, 127.5), (21841, 127.5), (1000, 123.675)])
def test_heads_of_imagenet_21k_tell_the_preprocessing(classes, mean):
    state = make_timm().state_dict()
    state['head.weight'], state['head.bias'] = torch.zeros(classes, DIM), torch.zeros(classes)
    assert convert_vit(state, None).preprocessing['mean'][0] == mean


def test_known_architectures_are_named():
    """The name gives the number of heads, which weights do not show."""
    for dim, hidden, heads in ((192, 768, 3), (768, 3072, 12)):
        name = _named(dict(embed_dims=dim, num_layers=12, feedforward_channels=hidden))
        with torch.device('meta'):
            vit = VisionTransformer(arch=name)
        assert (vit.embed_dims, vit.layers[0].attn.num_heads) == (dim, heads)


def as_hugging_face(state, prefix):
    """Rename to transformers.ViTModel, with separate queries, keys and values."""
    renamed = {
        'embeddings.cls_token': state['cls_token'],
        'embeddings.position_embeddings': state['pos_embed'],
    }
    for kind in ('weight', 'bias'):
        renamed[f'embeddings.patch_embeddings.projection.{kind}'] = state[
            f'patch_embed.proj.{kind}'
        ]
        renamed[f'layernorm.{kind}'] = state[f'norm.{kind}']
        for n in range(DEPTH):
            old, new = f'blocks.{n}', f'encoder.layer.{n}'
            renamed[f'{new}.layernorm_before.{kind}'] = state[f'{old}.norm1.{kind}']
            renamed[f'{new}.layernorm_after.{kind}'] = state[f'{old}.norm2.{kind}']
            renamed[f'{new}.attention.output.dense.{kind}'] = state[f'{old}.attn.proj.{kind}']
            renamed[f'{new}.intermediate.dense.{kind}'] = state[f'{old}.mlp.fc1.{kind}']
            renamed[f'{new}.output.dense.{kind}'] = state[f'{old}.mlp.fc2.{kind}']
            query, key, value = state[f'{old}.attn.qkv.{kind}'].split(DIM)
            attention = f'{new}.attention.attention'
            renamed[f'{attention}.query.{kind}'] = query
            renamed[f'{attention}.key.{kind}'] = key
            renamed[f'{attention}.value.{kind}'] = value
    return {f'{prefix}{name}': tensor for name, tensor in renamed.items()}


@pytest.mark.parametrize('prefix', ['', 'vit.'])
def test_hugging_face(prefix):
    model = make_timm()
    weights = as_hugging_face(model.state_dict(), prefix)
    extra = {f'{prefix}pooler.dense.weight': torch.rand(2)}
    if prefix:
        extra['classifier.weight'] = model.head.weight
    converted = convert_vit({**weights, **extra})
    assert_same_features(converted, model)
    assert converted.kind == 'ViT of Hugging Face'
    assert converted.preprocessing['mean'] == converted.preprocessing['std'] == [127.5] * 3
    assert ('head.layers.head.weight' in converted.weights) == bool(prefix)
    assert [name.removeprefix('vit.') for name in converted.unused] == ['pooler.dense.weight']
    sources = converted.sources['backbone.layers.1.attn.qkv.bias']
    assert [name.split('.')[-2] for name in sources] == ['query', 'key', 'value']


def random_npz(path, prefix='', attention=1, norm=2, mlp=3, side=4):
    """A checkpoint of the JAX code: kernels have inputs first, attention an axis of heads."""
    rng, per_head = np.random.default_rng(0), DIM // HEADS
    shapes = {
        'cls': (1, 1, DIM),
        'embedding/kernel': (8, 8, 3, DIM),
        'embedding/bias': (DIM,),
        'Transformer/posembed_input/pos_embedding': (1, 1 + side**2, DIM),
        'Transformer/encoder_norm/scale': (DIM,),
        'Transformer/encoder_norm/bias': (DIM,),
        'head/kernel': (DIM, 5),
        'head/bias': (5,),
        'pre_logits/kernel': (DIM, DIM),
        'pre_logits/bias': (DIM,),
    }
    for n in range(DEPTH):
        block = f'Transformer/encoderblock_{n}'
        for which in ('query', 'key', 'value'):
            name = f'{block}/MultiHeadDotProductAttention_{attention}/{which}'
            shapes |= {f'{name}/kernel': (DIM, HEADS, per_head), f'{name}/bias': (HEADS, per_head)}
        out = f'{block}/MultiHeadDotProductAttention_{attention}/out'
        dense = f'{block}/MlpBlock_{mlp}/Dense_'
        shapes |= {f'{out}/kernel': (HEADS, per_head, DIM), f'{out}/bias': (DIM,)}
        shapes |= {f'{dense}0/kernel': (DIM, 4 * DIM), f'{dense}0/bias': (4 * DIM,)}
        shapes |= {f'{dense}1/kernel': (4 * DIM, DIM), f'{dense}1/bias': (DIM,)}
        for number in (0, norm):
            shapes |= {f'{block}/LayerNorm_{number}/{k}': (DIM,) for k in ('scale', 'bias')}
    arrays = {
        f'{prefix}{name}': rng.normal(scale=0.2, size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    np.savez(path, **arrays)


@pytest.mark.parametrize('prefix', ['', 'opt/target/'])
def test_jax(prefix, tmp_path):
    path = str(tmp_path / 'vit.npz')
    random_npz(path, prefix)
    model = make_timm()
    model.load_pretrained(path)
    weights, container = read_weights(path)
    converted = convert_vit(weights, container)
    assert_same_features(converted, model)
    torch.testing.assert_close(converted.weights['head.layers.head.weight'], model.head.weight)
    assert converted.kind == 'ViT of JAX'
    assert converted.preprocessing['mean'] == [127.5] * 3
    assert converted.unused == []
    # The head of ImageNet-21k comes after a layer that timm drops: mmpretrain's hidden_dim.
    head = VisionTransformerClsHead(num_classes=5, in_channels=DIM, hidden_dim=DIM)
    own = {n.removeprefix('head.'): t for n, t in converted.weights.items() if 'head.' in n}
    head.load_state_dict(own)
    arrays = np.load(path)
    features = np.random.default_rng(1).normal(size=(2, DIM)).astype(np.float32)
    kernels, biases = (
        [arrays[f'{prefix}{layer}/{part}'] for layer in ('pre_logits', 'head')]
        for part in ('kernel', 'bias')
    )
    expected = np.tanh(features @ kernels[0] + biases[0]) @ kernels[1] + biases[1]
    given = head((torch.from_numpy(features),))
    torch.testing.assert_close(given, torch.from_numpy(expected))


def test_jax_of_big_vision(tmp_path):
    """The same layers with other numbers."""
    random_npz(str(tmp_path / 'a.npz'))
    random_npz(str(tmp_path / 'b.npz'), attention=0, norm=1, mlp=0)
    one, other = (convert_vit(*read_weights(str(tmp_path / f'{n}.npz'))) for n in 'ab')
    torch.testing.assert_close(one.weights, other.weights)


def test_position_embeddings_are_resized():
    model = make_timm()
    converted = convert_vit(model.state_dict(), img_size=48)
    assert converted.settings['img_size'] == 48
    assert converted.resized == {'backbone.pos_embed': '4 x 4 to 6 x 6'}
    square = model.pos_embed[:, 1:].reshape(1, 4, 4, DIM).permute(0, 3, 1, 2)
    square = torch.nn.functional.interpolate(square, (6, 6), mode='bicubic')
    expected = torch.cat([model.pos_embed[:, :1], square.flatten(2).transpose(1, 2)], dim=1)
    torch.testing.assert_close(converted.weights['backbone.pos_embed'], expected)


def test_missing_and_unused():
    state = make_timm().state_dict()
    del state['blocks.1.mlp.fc2.bias']
    state['mask_token'] = torch.rand(1)
    converted = convert_vit(state)
    assert converted.missing == ['backbone.layers.1.ffn.layers.1.bias']
    assert converted.unused == ['mask_token']
    with pytest.raises(CheckpointError, match=r'lacks weights: backbone\.layers\.1\.ffn\.layers'):
        converted.check_whole()


@pytest.mark.parametrize(
    ('change', 'complaint'),
    [
        (dict(dist_token=torch.rand(1, 1, DIM)), 'distillation or register token'),
        ({'blocks.0.norm1.bias': torch.rand(3)}, r'blocks\.0\.norm1\.bias is \(3,\), but'),
        ({'patch_embed.proj.weight': None}, 'no patch embedding'),
        ({'pos_embed': None}, r'not a complete ViT: backbone\.pos_embed is missing'),
        ({'blocks.1.attn.new': torch.rand(1)}, r'no place for its weights: blocks\.1\.attn\.new$'),
        ({'blocks.1.ls1.gamma': torch.rand(DIM)}, r'no place.*: blocks\.1\.ls1\.gamma$'),
    ],
)
def test_refuses(change, complaint):
    state = {n: t for n, t in {**make_timm().state_dict(), **change}.items() if t is not None}
    with pytest.raises(CheckpointError, match=complaint):
        convert_vit(state)


@pytest.mark.parametrize('size', [-5, 0, 7])
def test_images_smaller_than_a_patch(size):
    with pytest.raises(CheckpointError, match=f'^position embeddings .* of {size} pixels'):
        convert_vit(make_timm().state_dict(), img_size=size)
