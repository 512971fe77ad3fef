"""Common tests of all methods: what trains, what is frozen, saving, loading, merging."""

import copy
from functools import partial

import pytest
import torch
from mmengine.runner import load_state_dict
from mmpretrain.models import VisionTransformer
from other_package.gain import Gain
from small_backbones import KINDS, plain, scatter, tuned
from torch.utils.checkpoint import checkpoint

from toast_mm.checkpoint import CheckpointError
from toast_mm.models import TOASTViT
from toast_mm.models.peft.lora import LoRA

LORA = dict(type='toast_mm.LoRA', rank=2)
METHODS = {
    'lora': LORA,
    'vpt': dict(type='toast_mm.VPT', num_prompts=3),
    'vpt shallow': dict(type='toast_mm.VPT', num_prompts=3, deep=False),
    'adaptformer': dict(type='toast_mm.AdaptFormer', bottleneck=2),
    'ssf': dict(type='toast_mm.SSF'),
    'bitfit': dict(type='toast_mm.BitFit'),
    'partial': dict(type='toast_mm.Partial', blocks=1),
    'peft': dict(type='toast_mm.PEFT', config=dict(peft_type='LORA', r=2, use_dora=True)),
    'gain': dict(type=Gain),  # from outside the package
}
CASES = [('vit', method) for method in METHODS]
CASES += [
    (kind, method) for kind in ('timm', 'eva') for method in ('vpt', 'vpt shallow', 'adaptformer')
]
CASES += [
    (kind, method)
    for kind in ('convnext', 'timm', 'eva', 'stages', 'mixer')
    for method in ('lora', 'ssf', 'bitfit', 'partial', 'peft', 'gain')
]
CASES += [(kind, method) for kind in ('swin', 'batch norm') for method in ('lora', 'ssf', 'bitfit')]
CASES += [(kind, method) for kind in ('swin', 'batch norm') for method in ('partial', 'peft')]
CASES += [(kind, 'adaptformer') for kind in ('stages', 'swin')]
cases = pytest.mark.parametrize(('kind', 'method'), CASES)

# Numbers of parameters, counted by hand from the sizes in conftest.py.
D, FFN = 24, 32
BIASES_VIT = D + 3 * (D + 3 * D + D + D + FFN + D) + D  # patches, (ln1 qkv proj ln2 fc1 fc2), ln1
STAGES = ((6, 1), (8, 2), (8, 1), (12, 1))
COUNTS = {
    ('vit', 'lora'): 3 * 2 * (D + 3 * D),
    ('vit', 'vpt'): 3 * 3 * D,
    ('vit', 'vpt shallow'): 3 * D,
    ('vit', 'adaptformer'): 3 * (D * 2 + 2 + 2 * D + D),
    ('vit', 'ssf'): 2 * BIASES_VIT,  # one scale and one shift for every output, as there are biases
    ('vit', 'bitfit'): BIASES_VIT,
    ('vit', 'partial'): (2 * D) * 2  # norms of the block
    + (D * 3 * D + 3 * D) + (D * D + D) + (D * FFN + FFN) + (FFN * D + D) + 2 * D,
    ('convnext', 'lora'): sum(n * 2 * 2 * (c + 4 * c) for c, n in STAGES),
    ('convnext', 'bitfit'): (6 + 6) + (6 + 8) + (8 + 8) + (8 + 12)  # norms, convolutions
    + sum(n * (c + c + 4 * c + c) for c, n in STAGES) + 12,
    ('convnext', 'partial'): 2 * 8 + (8 * 12 * 4 + 12)
    + (12 * 49 + 12) + 2 * 12 + (12 * 48 + 48) + (48 * 12 + 12) + 12 + 2 * 12,
}  # fmt: skip
DIM, PATCHES = 12, 16  # of the mixer, whose blocks have three layers and a norm
BIASES_MIXER = DIM + 3 * (PATCHES + 3 * DIM) + DIM
COUNTS |= {
    ('mixer', 'lora'): 3 * 2 * (DIM + DIM),
    ('mixer', 'ssf'): 2 * BIASES_MIXER,
    ('mixer', 'bitfit'): BIASES_MIXER,
    ('mixer', 'partial'): PATCHES * (PATCHES + 1) + 2 * DIM + 2 * DIM * (DIM + 1) + 2 * DIM,
    ('vit', 'gain'): 3 * (3 * D + D + FFN + D),
    ('convnext', 'gain'): sum(n * (4 * c + c) for c, n in STAGES),
    ('mixer', 'gain'): 3 * (PATCHES + 2 * DIM),
}
# timm's have MLPs of 4 D; EVA's one of 8/3 D behind a gate, and no bias of the keys.
BIASES_TIMM = D + 3 * (D + 3 * D + D + D + 4 * D + D) + D
BIASES_EVA = D + 3 * (D + 2 * D + D + D + 128 + D)
COUNTS |= {
    **{(kind, 'lora'): 3 * 2 * (D + 3 * D) for kind in ('timm', 'eva')},
    **{(kind, 'vpt'): 3 * 3 * D for kind in ('timm', 'eva')},
    **{(kind, 'vpt shallow'): 3 * D for kind in ('timm', 'eva')},
    ('timm', 'ssf'): 2 * BIASES_TIMM,
    ('eva', 'ssf'): 2 * (BIASES_EVA + 3 * D),
    ('timm', 'bitfit'): BIASES_TIMM,
    ('eva', 'bitfit'): BIASES_EVA,
    ('timm', 'partial'): (2 * D) * 2 + D * 3 * D + 3 * D + D * D + D
    + D * 4 * D + 4 * D + 4 * D * D + D + 2 * D + 2 * D,  # with two scales of layers
    ('eva', 'partial'): (2 * D) * 2 + D * 3 * D + 2 * D + D * D + D + D * 128 + 128 + 64 * D + D,
    ('timm', 'gain'): 3 * (3 * D + D + 4 * D + D),
    ('eva', 'gain'): 3 * (3 * D + D + 128 + D),
}  # fmt: skip
COUNTS |= {(kind, 'adaptformer'): COUNTS['vit', 'adaptformer'] for kind in ('timm', 'eva')}
COUNTS['convnext', 'ssf'] = 2 * COUNTS['convnext', 'bitfit']
COUNTS |= {
    ('stages', method): COUNTS['convnext', method]
    for method in ('lora', 'ssf', 'bitfit', 'partial', 'gain')
}
# DoRA has a magnitude of every output beside LoRA's two matrices.
MAGNITUDES = dict.fromkeys(('vit', 'timm', 'eva'), 3 * 3 * D)
MAGNITUDES |= {kind: sum(n * (4 * c + c) for c, n in STAGES) for kind in ('convnext', 'stages')}
MAGNITUDES |= {'mixer': 3 * DIM}
COUNTS |= {(kind, 'peft'): COUNTS[kind, 'lora'] + count for kind, count in MAGNITUDES.items()}
# Convolutions without bias before norms, and two with it where channels are squeezed.
NORMS = 24 + 16 + (64 + 24) + (96 + 32) + (128 + 128 + 48) + (192 + 192 + 64) + 256
SQUEEZES = (8 + 128) + (12 + 192)
COUNTS |= {
    ('batch norm', 'lora'): 2 * ((64 + 24) + (96 + 32) + (32 + 128) + (128 + 48)
    + (48 + 192) + (192 + 64)),
    ('batch norm', 'ssf'): 2 * (NORMS + SQUEEZES),
    ('batch norm', 'bitfit'): NORMS + SQUEEZES,
    ('batch norm', 'partial'): 48 * 192 + 192 * 9 + 192 * 64 + 2 * (192 + 192 + 64)
    + (192 * 12 + 12) + (12 * 192 + 192) + 64 * 256 + 2 * 256,
}  # fmt: skip

# Swin's has linear layers without bias between stages, and tables of positions.
LAYERS_SWIN = sum(c + 3 * c + c + c + 4 * c + c for c in (24, 48, 48))
COUNTS |= {
    ('stages', 'adaptformer'): sum(n * (c * 2 + 2 + 2 * c + c) for c, n in STAGES),
    ('swin', 'adaptformer'): sum(c * 2 + 2 + 2 * c + c for c in (24, 48, 48)),
    ('swin', 'lora'): sum(2 * (c + 3 * c) for c in (24, 48, 48)),
    ('swin', 'ssf'): 2 * (24 + 24 + 96 + 48 + LAYERS_SWIN + 48),
    ('swin', 'bitfit'): 24 + 24 + 96 + LAYERS_SWIN + 48,
    ('swin', 'partial'): 2 * 96 + 96 * 48 + 2 * 48
    + 2 * (2 * 49 + 4 * 48 + 48 * 144 + 144 + 48 * 48 + 48 + 48 * 192 + 192 + 192 * 48 + 48),
}  # fmt: skip

MAGNITUDES = {'swin': 3 * (24 + 48 + 48), 'batch norm': 24 + 32 + 128 + 48 + 192 + 64}
COUNTS |= {(kind, 'peft'): COUNTS[kind, 'lora'] + count for kind, count in MAGNITUDES.items()}

LAST_BLOCK = {
    'vit': ('layers.2.', 'ln1.'),
    'convnext': ('downsample_layers.3.', 'stages.3.', 'norm3.'),
    'timm': ('model.blocks.2.', 'model.norm.'),
    'eva': ('model.blocks.2.',),
    'stages': ('model.stages.3.', 'model.head.norm.'),
    'swin': ('model.layers.1.', 'model.norm.'),
    'batch norm': ('model.blocks.4.', 'model.conv_head.', 'model.bn2.'),
    'mixer': ('blocks.2.', 'norm.'),
}
NAMES = {
    'lora': ('.lora_down.weight', '.lora_up.weight'),
    'vpt': ('.prompts',),
    'vpt shallow': ('.prompts',),
    'adaptformer': ('.adapter.0.weight', '.adapter.0.bias', '.adapter.3.weight', '.adapter.3.bias'),
    'ssf': ('.ssf_scale', '.ssf_shift'),
    'bitfit': ('.bias', '_bias'),
    'peft': tuple(f'.peft.lora_{part}.default.weight' for part in ('A', 'B', 'magnitude_vector')),
    'gain': ('.gain',),
}


def step(backbone, optimizer, image):
    optimizer.zero_grad()
    backbone(image)[-1].square().sum().backward()
    optimizer.step()


@cases
def test_exactly_what_is_intended_trains(kind, method):
    backbone = tuned(kind, METHODS[method])
    training = {n: p.numel() for n, p in backbone.named_parameters() if p.requires_grad}
    assert sum(training.values()) == COUNTS[kind, method]
    if method == 'partial':
        assert all(name.startswith(LAST_BLOCK[kind]) for name in training)
    else:
        assert all(name.endswith(NAMES[method]) for name in training)
        assert {n for n, _ in backbone.named_parameters() if n.endswith(NAMES[method])} == set(
            training
        )


@cases
def test_what_is_frozen_stays_bit_identical(kind, method, image):
    backbone = tuned(kind, METHODS[method]).train()
    before = copy.deepcopy(backbone.state_dict())
    training = {n for n, p in backbone.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(10):
        step(backbone, optimizer, image)
    after = backbone.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed <= training
    # A bias in front of a norm without it (of the keys, before softmax) may have no gradient.
    assert len(changed) >= 0.9 * len(training)


@cases
def test_names_of_the_backbone_stay(kind, method, image):
    """Its own checkpoint loads, and the checkpoint holds all parameters of the method."""
    backbone = tuned(kind, METHODS[method])
    own = plain(kind).state_dict()
    assert own.keys() <= backbone.state_dict().keys()
    other = scatter(copy.deepcopy(backbone), seed=1)
    assert not torch.allclose(other(image)[0], backbone(image)[0])
    other.load_state_dict(backbone.state_dict())
    assert torch.equal(other(image)[0], backbone(image)[0])
    keys = other.load_state_dict(own, strict=False)
    added = backbone.state_dict().keys() - own.keys()
    assert set(keys.missing_keys) == added and not keys.unexpected_keys


@cases
def test_incomplete_checkpoints_are_refused(kind, method):
    backbone = tuned(kind, METHODS[method])
    state = backbone.state_dict()
    state.pop(next(name for name in state if name.endswith('weight')))
    with pytest.raises(CheckpointError, match=r'missing: .*weight'):
        load_state_dict(backbone, state)
    added = [name for name in backbone.state_dict() if backbone.is_base(name) is False]
    if added:
        state = backbone.state_dict()
        state.pop(added[0])
        if len(added) > 1:
            with pytest.raises(CheckpointError, match=f'missing: {added[0]}'):
                load_state_dict(backbone, state)
        with pytest.raises(CheckpointError, match=f'holds more than this backbone has: {added[0]}'):
            load_state_dict(tuned(kind, None), backbone.state_dict())


@pytest.mark.parametrize(
    ('kind', 'method'),
    [
        (kind, method)
        for kind, method in CASES
        if method in ('lora', 'peft', 'gain')
        or (method == 'ssf' and kind not in ('eva', 'swin', 'batch norm'))
    ],
)
def test_merged_it_is_a_plain_backbone(kind, method, image):
    backbone = tuned(kind, METHODS[method])
    expected = backbone(image)[0]
    assert not torch.allclose(expected, plain(kind)(image)[0])
    assert backbone.merge() is backbone and not backbone.training
    torch.testing.assert_close(backbone(image)[0], expected)
    parent = plain(kind)
    parent.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(parent(image)[0], expected)
    assert not any(p.requires_grad for p in backbone.parameters())
    assert {type(m) for m in backbone.modules()} == {type(m) for m in tuned(kind, None).modules()}
    with pytest.raises(ValueError, match='no method added anything'):
        backbone.merge()


@pytest.mark.parametrize(
    ('method', 'message'),
    [
        ('vpt', r'layers\.0\.prompts of VPT cannot be merged'),
        ('adaptformer', r'layers\.0\.ffn\.adapter\.0\.bias of AdaptFormer cannot be'),
        ('bitfit', 'no method added anything'),
        ('partial', 'no method added anything'),
    ],
)
def test_what_cannot_be_merged_says_so(method, message):
    with pytest.raises(ValueError, match=message):
        tuned('vit', METHODS[method]).merge()


@pytest.mark.parametrize('method', ['lora', 'adaptformer', 'peft'])
def test_they_start_as_the_backbone(method, image):
    """After init_weights, where the backbone's initialisers also reach the added layers."""
    backbone = TOASTViT(**KINDS['vit'][2], feedback_from=None, tuning=METHODS[method])
    backbone.init_weights()
    untuned = VisionTransformer(**KINDS['vit'][2])
    untuned.load_state_dict(
        {name: tensor for name, tensor in backbone.state_dict().items() if backbone.is_base(name)}
    )
    assert torch.equal(backbone(image.float())[0], untuned(image.float())[0])


@cases
def test_copies_are_independent(kind, method, image):
    """An EMA copies models, and must have its own parameters."""
    backbone = tuned(kind, METHODS[method])
    twin = copy.deepcopy(backbone)
    assert torch.equal(twin(image)[0], backbone(image)[0])
    scatter(backbone, seed=1)
    assert not torch.allclose(twin(image)[0], backbone(image)[0])


@pytest.mark.parametrize('kind', ['vit', 'convnext', 'timm', 'eva', 'stages', 'swin'])
def test_drop_path_acts_where_a_method_trains_and_not_in_a_frozen_backbone(kind):
    for tuning, acts in ((None, False), (LORA, True)):
        backbone = tuned(kind, tuning, drop_path_rate=0.5).train()
        modes = {m.training for m in backbone.modules() if type(m).__name__ == 'DropPath'}
        assert modes == {acts}


@pytest.mark.parametrize('method', ['lora', 'ssf', 'bitfit', 'adaptformer', 'partial', 'peft'])
def test_beside_feedback_it_acts_in_both_passes(method, image):
    """The result equals feedback on the tuned backbone."""
    backbone = tuned('vit', METHODS[method], feedback_from='last', out_type='raw')
    training = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert any(n.startswith('topdown.') for n in training)
    assert any(not n.startswith('topdown.') for n in training)
    with backbone.recording() as record:
        expected = backbone(image)[0]
    alone = tuned('vit', METHODS[method], out_type='raw')
    state = {n: t for n, t in backbone.state_dict().items() if not n.startswith('topdown.')}
    alone.load_state_dict(state)
    torch.testing.assert_close(record.z, alone(image)[0])  # the first pass, read out
    if method in ('lora', 'ssf', 'peft'):
        merged = tuned('vit', None, feedback_from='last', out_type='raw')
        weights = alone.merge().state_dict()
        topdown = {n: t for n, t in backbone.state_dict().items() if n.startswith('topdown.')}
        merged.load_state_dict({**weights, **topdown})
        torch.testing.assert_close(merged(image)[0], expected)


@pytest.mark.parametrize('method', ['lora', 'peft', 'gain'])
@pytest.mark.parametrize('kind', ['convnext', 'timm', 'eva', 'stages', 'mixer'])
def test_merged_beside_feedback(kind, method, image):
    backbone = tuned(kind, METHODS[method], feedback_from='last')
    expected = backbone(image)[0]
    assert not torch.allclose(expected, tuned(kind, None, feedback_from='last')(image)[0])
    torch.testing.assert_close(backbone.merge()(image)[0], expected)


@pytest.mark.parametrize('method', METHODS)
def test_statistics_of_the_base_stay(method, image):
    """Statistics of the batch norms in a convolutional stem."""
    stem = dict(conv_type='toast_mm.ConvStem')
    backbone = tuned('vit', METHODS[method], patch_cfg=stem).train()
    before = copy.deepcopy(backbone.state_dict())
    backbone(image)
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert any('running_mean' in name for name in before)


@pytest.mark.parametrize(
    ('tuning', 'first'),
    [
        (METHODS['partial'], 2),
        (dict(type='toast_mm.Partial', blocks=2), 1),
        (dict(type='toast_mm.LoRA', targets=('layers.1.attn.qkv',)), 1),
        (METHODS['vpt'], 0),
        (METHODS['lora'], 0),
    ],
)
def test_nothing_below_the_first_tuned_block_is_differentiated(tuning, first, image):
    backbone = tuned('vit', tuning)
    graphs = []
    for layer in backbone.layers:
        layer.register_forward_hook(lambda module, arguments, out: graphs.append(out.requires_grad))
    backbone(image)
    assert graphs == [block >= first for block in range(3)]


def test_norms_of_dense_outputs_are_no_method(image):
    """They train, but everything below the tuned stage is frozen."""
    dense = dict(gap_before_final_norm=False, out_indices=[0, 1, 2, 3])
    backbone = tuned('convnext', METHODS['partial'], **dense)
    assert backbone.norm0.weight.requires_grad
    graphs = []
    for stage in backbone.stages:
        stage[-1].register_forward_hook(
            lambda module, arguments, out: graphs.append(out.requires_grad)
        )
    assert all(out.requires_grad for out in backbone(image))
    assert graphs == [False, False, False, True]


def test_the_class_of_a_method_names_it_as_well():
    assert tuned('vit', dict(type=LoRA)).method == 'LoRA'
    beside = tuned('vit', dict(type='toast_mm.LoRA'), feedback_from='last')
    assert beside.method == 'TOAST with LoRA'


@pytest.mark.parametrize('feedback_from', [None, 'last'])
@pytest.mark.parametrize(
    ('kind', 'method'),
    [
        *(('vit', method) for method in METHODS),
        *((kind, 'adaptformer') for kind in ('timm', 'stages', 'swin')),
        ('timm', 'peft'),
    ],
)
@pytest.mark.filterwarnings('ignore:None of the inputs have requires_grad')  # of frozen blocks
def test_gradients_survive_activation_checkpointing(kind, method, feedback_from, image):
    """With the reentrant kind, which mmengine's switch uses."""
    if feedback_from and method.startswith('vpt'):
        pytest.skip('VPT and feedback cannot be combined')
    gradients = []
    for wrapped in (False, True):
        backbone = tuned(kind, METHODS[method], feedback_from=feedback_from).train()
        if wrapped:
            for block in range(backbone.depth):
                # As mmengine's switch, whose kind is reentrant.
                layer = backbone.block_modules(block)[0]
                layer.forward = partial(checkpoint, layer.forward, use_reentrant=True)
        backbone(image)[0].square().sum().backward()
        gradients.append({n: p.grad for n, p in backbone.named_parameters() if p.requires_grad})
    plain, checkpointed = gradients
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)


@pytest.mark.parametrize(
    ('kind', 'tuning', 'arguments', 'message'),
    [
        ('convnext', METHODS['vpt'], {}, 'TOASTConvNeXt has no tokens'),
        ('convnext', METHODS['adaptformer'], {}, 'AdaptFormer extends the feed-forward'),
        (
            'batch norm',
            METHODS['adaptformer'],
            {},
            r'this TOASTTimmStages has none; it fits .* a Vision Transformer, a Swin or a ConvNeXt',
        ),
        ('vit', METHODS['vpt'], dict(feedback_from='last'), 'VPT and feedback cannot be combined'),
        ('vit', LORA, dict(frozen=False), 'frozen=False tunes everything, and tuning='),
        ('vit', dict(type='toast_mm.Partial', blocks=4), {}, r'blocks=4 of Partial must be 1\.\.3'),
        ('vit', dict(type='toast_mm.Partial', blocks=0), {}, r'blocks=0 of Partial must be 1\.\.3'),
        ('vit', dict(type='toast_mm.VPT', num_prompts=0), {}, 'num_prompts=0 must be at least 1'),
        (
            'vit',
            dict(type='toast_mm.VPT', num_prompts=161),
            {},
            'num_prompts=161 is too many for 16 patches: at most 160',
        ),
        ('vit', dict(rank=4), {}, r"names no method by type, such as type='toast_mm\.LoRA'"),
        (
            'vit',
            dict(type='toast_mm.InCAHead', num_classes=2, in_channels=8, num_layers=1),
            {},
            'is no method',
        ),
        (
            'vit',
            dict(type='toast_mm.LoRA', targets='attn.qkv'),
            {},
            r"'attn\.qkv' as a regular expression for whole names matches no",
        ),
        ('vit', dict(type='toast_mm.LoRA', rank=0), {}, 'rank=0 of a low-rank update must be'),
        ('vit', dict(type='toast_mm.LoRA', alpha=-1), {}, 'alpha=-1 of a low-rank update must'),
        (
            'vit',
            dict(type='toast_mm.AdaptFormer', bottleneck=0),
            {},
            'bottleneck=0 of AdaptFormer must be at least 1',
        ),
        (
            'vit',
            dict(type='toast_mm.LoRA', targets=('qkw',)),
            {},
            r"'qkw' matches no linear layer or 1 x 1 convolution of TOASTViT; there are: "
            r'layers\.\*\.attn\.qkv, layers\.\*\.attn\.proj, ',
        ),
        (
            'convnext',
            dict(type='toast_mm.LoRA', targets=r'stages\..*\.depthwise_conv'),
            {},
            r'there are: stages\.\*\.\*\.pointwise_conv1, stages\.\*\.\*\.pointwise_conv2$',
        ),
        ('batch norm', LORA, dict(model_name='resnet10t'), 'has no pointwise layers that LoRA'),
        ('vit', dict(type='toast_mm.Lora'), {}, 'toast_mm.Lora is not in'),
        ('vit', dict(type='toast_mm.LoRA', targets='*.qkv'), {}, 'is not a regular expression'),
        ('vit', dict(type='toast_mm.LoRA', targets=()), {}, 'tunes nothing that out_indices='),
        ('vit', METHODS['partial'], dict(out_indices=[0, 1]), r'out_indices=\[0, 1\] depend on'),
    ],
)
def test_what_does_not_fit_says_so(kind, tuning, arguments, message):
    with pytest.raises((ValueError, KeyError), match=message):
        tuned(kind, tuning, **arguments)


@pytest.mark.parametrize(
    ('kind', 'method'),
    [
        ('vit', 'lora'),
        ('vit', 'ssf'),
        ('vit', 'adaptformer'),
        ('vit', 'peft'),
        ('vit', 'gain'),
        ('timm', 'lora'),
        ('timm', 'adaptformer'),
        ('timm', 'peft'),
        ('eva', 'peft'),
        ('eva', 'gain'),
        ('mixer', 'lora'),
        ('mixer', 'gain'),
    ],
)
def test_folding_takes_the_tuned_values(kind, method, image):
    """In memory and in a checkpoint."""
    backbone = tuned(kind, METHODS[method], feedback_from='last')
    expected = backbone(image)[0]
    torch.testing.assert_close(backbone.fold()(image)[0], expected)
    other = tuned(kind, METHODS[method], feedback_from='last')
    other.load_state_dict(backbone.state_dict())
    assert other.folded
    torch.testing.assert_close(other(image)[0], expected)
