"""Hugging Face peft in a backbone: what each type computes, how it starts, and what is refused."""

import copy
import sys

import pytest
import torch
import torch.nn.functional as F
from extras import is_installed
from small_backbones import plain, scatter, tuned
from torch import nn

from toast_mm.models import PEFT
from toast_mm.models.peft.base import effective_weight
from toast_mm.models.peft.hugging_face import FITTING

if not is_installed('peft'):
    pytest.skip('needs the extra: pip install "toast_mm[peft]"', allow_module_level=True)

CONFIGS = {
    'LORA': dict(r=2, lora_alpha=3),
    'IA3': dict(),
    'OFT': dict(oft_block_size=4),
    'LOHA': dict(r=2, alpha=3),
    'LOKR': dict(r=2),
    'VERA': dict(r=3),
    'HRA': dict(r=2),
    'HIRA': dict(r=2),
    'FOURIERFT': dict(n_frequency=20),
    'WAVEFT': dict(n_frequency=20),
    'DELORA': dict(r=2),
    'GRALORA': dict(r=2),
    'MISS': dict(r=2),
    'C3A': dict(block_size=4),
    'ROAD': dict(group_size=8),
    'PEANUT': dict(r=2),
    'LN_TUNING': dict(target_modules=['ln1']),
}
types = pytest.mark.parametrize('kind', FITTING)


def peft(kind, **arguments):
    return dict(type='toast_mm.PEFT', config=dict(peft_type=kind, **(CONFIGS[kind] | arguments)))


def skew(values, size):
    matrix = values.new_zeros(size, size)
    above = torch.triu_indices(size, size, 1)
    matrix[above[0], above[1]] = values
    return matrix - matrix.T


def lora(w, p):
    return w + 3 / 2 * p['lora_B.default.weight'] @ p['lora_A.default.weight']


def dora(w, p):
    direction = lora(w, p)
    norm = direction.norm(dim=1, keepdim=True)
    return p['lora_magnitude_vector.default.weight'][:, None] * direction / norm


def loha(w, p):
    one, two = (p[f'hada_w{n}_a.default'] @ p[f'hada_w{n}_b.default'] for n in (1, 2))
    return w + 3 / 2 * one * two


def vera(w, p):
    up = p['vera_lambda_b.default'][:, None] * p['vera_B.default'][: len(w)]
    return w + up @ (p['vera_lambda_d.default'][:, None] * p['vera_A.default'][:, : w.shape[1]])


def oft(w, p):
    unit = torch.eye(4, dtype=w.dtype)
    blocks = [skew(values, 4) for values in p['oft_R.default.weight']]
    return w @ torch.block_diag(*[(unit + q) @ torch.inverse(unit - q) for q in blocks])


def householder(w, p):
    for u in p['hra_u.default'].T:
        w = w - 2 * torch.outer(w @ u, u) / (u @ u)
    return w


@pytest.mark.parametrize(
    ('tuning', 'weight_of'),
    [
        (peft('LORA'), lora),
        (peft('LORA', use_dora=True), dora),
        (peft('LOHA'), loha),
        (peft('VERA'), vera),
        (peft('OFT', use_cayley_neumann=False), oft),
        (peft('HRA'), householder),
        (peft('IA3'), None),
    ],
    ids=['LoRA', 'DoRA', 'LoHa', 'VeRA', 'OFT', 'HRA', 'IA3'],
)
def test_equations(tuning, weight_of, image):
    """In a plain backbone with the weights that they mean, and as a signal sees them."""
    backbone = tuned('vit', tuning)
    untuned = plain('vit')
    for own, layer in zip(backbone.layers, untuned.layers, strict=True):
        qkv, values = layer.attn.qkv, dict(own.attn.qkv.peft.state_dict())
        with torch.no_grad():
            if weight_of is None:
                scale = values['ia3_l.default']
                weight, bias = qkv.weight * scale, qkv.bias * scale[:, 0]
            else:
                weight, bias = weight_of(qkv.weight, values), qkv.bias
            rows = slice(-24, None)
            torch.testing.assert_close(effective_weight(own.attn.qkv), (weight, bias))
            torch.testing.assert_close(
                effective_weight(own.attn.qkv, rows), (weight[rows], bias[rows])
            )
            qkv.weight.copy_(weight)
            qkv.bias.copy_(bias)
    torch.testing.assert_close(backbone(image)[0], untuned(image)[0])


@types
def test_every_type(kind, image):
    """Names of the base stay; what it computes is in checkpoints, copied, and merged."""
    backbone = tuned('vit', peft(kind))
    own = plain('vit')
    assert own.state_dict().keys() <= backbone.state_dict().keys()
    expected = backbone(image)[0]
    assert not torch.allclose(expected, own(image)[0], atol=1e-3)
    torch.manual_seed(1)
    other = scatter(tuned('vit', peft(kind)), seed=1)
    assert not torch.allclose(other(image)[0], expected, atol=1e-3)
    other.load_state_dict(backbone.state_dict())
    assert torch.equal(other(image)[0], expected)
    twin = copy.deepcopy(backbone)
    scatter(backbone, seed=1)
    assert torch.equal(twin(image)[0], expected)
    own.load_state_dict(twin.merge().state_dict())
    torch.testing.assert_close(own(image)[0], expected)


@types
def test_every_type_beside_feedback(kind, image):
    """The signal passes through the tuned value projection, with gradients."""
    backbone = tuned('vit', peft(kind), feedback_from='last')
    expected = backbone(image)[0]
    expected.square().sum().backward()
    assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)
    torch.testing.assert_close(copy.deepcopy(backbone).fold()(image)[0], expected)
    merged = tuned('vit', None, feedback_from='last')
    merged.load_state_dict(backbone.merge().state_dict())
    torch.testing.assert_close(merged(image)[0], expected)


def test_gradients_through_the_effective_weight():
    layer = tuned('vit', peft('LOHA')).layers[0].attn.qkv
    signal = torch.randn(5, 24, dtype=torch.double)
    gradients = []
    for values in (
        F.linear(signal, effective_weight(layer)[0]),
        F.linear(signal, loha(layer.weight, dict(layer.peft.named_parameters()))),
    ):
        parameters = [p for p in layer.parameters() if p.requires_grad]
        gradients.append(torch.autograd.grad(values.square().sum(), parameters))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('kind', [k for k in FITTING if k not in ('FOURIERFT', 'WAVEFT', 'C3A')])
@pytest.mark.parametrize('variant', [{}, dict(use_dora=True)], ids=str)
def test_they_start_as_the_base_that_was_loaded(kind, variant, image, tmp_path):
    """Some begin from its weights, such as the magnitudes of DoRA; those left out draw values."""
    if variant and kind != 'LORA':
        pytest.skip('a variant of LoRA')
    base = plain('vit')
    torch.save(base.state_dict(), tmp_path / 'base.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth'))
    backbone = tuned('vit', peft(kind, **variant), init_cfg=init_cfg)
    backbone.init_weights()
    torch.testing.assert_close(backbone(image)[0], base(image)[0])
    assert any(p.requires_grad for p in backbone.parameters())
    for name, parameter in backbone.named_parameters():
        assert not (parameter.requires_grad and backbone.is_base(name))


def test_the_config_comes_with_the_weights():
    backbone = tuned('vit', peft('LORA'))
    same = tuned('vit', peft('LORA', lora_dropout=0.5, init_lora_weights='gaussian'))
    same.load_state_dict(backbone.state_dict())
    with pytest.raises(
        RuntimeError, match=r'layers\.0\.attn\.qkv was tuned with .*"lora_alpha": 3.*: 9'
    ):
        tuned('vit', peft('LORA', lora_alpha=9)).load_state_dict(backbone.state_dict())


def test_biases_and_whole_layers_train_beside():
    backbone = tuned('vit', peft('LORA', bias='lora_only', modules_to_save=['ln1', '2.attn.proj']))
    trained = {n for n, p in backbone.named_parameters() if p.requires_grad and backbone.is_base(n)}
    assert trained == {
        *(f'layers.{b}.{n}' for b in range(3) for n in ('attn.qkv.bias', 'ln1.weight', 'ln1.bias')),
        *(f'{n}.{part}' for n in ('ln1', 'layers.2.attn.proj') for part in ('weight', 'bias')),
    }


def test_layers_are_by_default_those_of_lora():
    """And not the whole stem of this ResNet, which has the name of one of them, conv1."""
    layers = []
    for tuning, part in (
        (peft('LORA'), '.peft.lora_A.'),
        (dict(type='toast_mm.LoRA', rank=2), '.lora_down.'),
    ):
        backbone = tuned('batch norm', tuning, model_name='test_resnet')
        assert 'model.conv1.0.weight' in backbone.state_dict()
        layers.append({name.split(part)[0] for name in backbone.added if part in name})
    assert layers[0] == layers[1] != set()


def test_layers_of_choice():
    def adapted(kind='vit', **arguments):
        backbone = tuned(kind, peft('LORA', **arguments))
        return {n.removesuffix('.peft_config') for n in backbone.added if n.endswith('_config')}

    names = ('attn.qkv', 'attn.proj', 'ffn.layers.0.0', 'ffn.layers.1')
    assert adapted(target_modules='all-linear') == {
        f'layers.{b}.{name}' for b in range(3) for name in names
    }
    chosen = adapted('timm', target_modules=['attn.proj'], layers_to_transform=[1])
    assert chosen == {'model.blocks.1.attn.proj'}
    chosen = adapted(
        target_modules=['proj'], exclude_modules=['1.attn.proj'], rank_pattern={'0': 1}
    )
    assert chosen == {'layers.0.attn.proj', 'layers.2.attn.proj'}
    assert adapted(target_modules=r'.*\.0\.attn\.\w+') == {
        'layers.0.attn.qkv',
        'layers.0.attn.proj',
    }


def test_dropout_acts_in_training_and_beside_feedback_in_the_second_pass(image):
    backbone = tuned('vit', peft('LORA', lora_dropout=0.5))
    assert torch.equal(backbone(image)[0], backbone(image)[0])
    backbone.train()
    assert not torch.allclose(backbone(image)[0], backbone(image)[0])
    steered = tuned('vit', peft('LORA', lora_dropout=0.5), feedback_from='last').train()
    with steered.recording() as first:
        one = steered(image)[0]
    with steered.recording() as second:
        other = steered(image)[0]
    assert torch.equal(first.z, second.z)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize('feedback_from', [None, 'last'])
def test_under_autocast(feedback_from, image):
    backbone = tuned('vit', peft('LORA', use_dora=True), feedback_from=feedback_from).float()
    expected = backbone(image.float())[0]
    with torch.autocast('cpu', torch.bfloat16):
        output = backbone(image.float())[0]
    output.float().square().sum().backward()
    assert (output - expected).norm() < 0.03 * expected.norm()
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.requires_grad)


def test_hooks_act_once(image):
    backbone = tuned('vit', None)
    seen = []
    backbone.layers[1].attn.qkv.register_forward_hook(lambda module, *args: seen.append(module))
    PEFT(dict(peft_type='LORA')).inject(backbone)
    backbone(image)
    assert seen == [backbone.layers[1].attn.qkv]


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(r=4), 'peft_type=None of toast_mm.PEFT must be one of LORA, IA3'),
        (dict(peft_type='ADALORA'), "peft_type='ADALORA' of toast_mm.PEFT must be one of LORA"),
        (dict(peft_type='LORA', rank=4), "toast_mm.PEFT: .* unexpected keyword argument 'rank'"),
        (
            dict(peft_type='LORA', target_modules=['qkv', 'qkw']),
            r"target_modules=\['qkv', 'qkw'\]: 'qkw' matches no .* of TOASTViT; there are: "
            r'.*layers\.\*\.attn\.qkv, layers\.\*\.attn\.proj',
        ),
        (
            dict(peft_type='LORA', modules_to_save=['norm']),
            r"modules_to_save=\['norm'\]: 'norm' matches no",
        ),
        (dict(peft_type='LORA', init_lora_weights='pissa'), "init_lora_weights='pissa' of .*base"),
        (dict(peft_type='LORA', bias='all'), "bias='all' of toast_mm.PEFT must be 'none'"),
        (
            dict(peft_type='LORA', target_parameters=['weight']),
            'target_parameters of toast_mm.PEFT',
        ),
        (dict(peft_type='MISS', r=25), r'of toast_mm\.PEFT, layers\.0\.attn\.qkv: .*in_features'),
        (dict(peft_type='IA3', target_modules=['ln1']), r'of toast_mm\.PEFT, layers\.0\.ln1: '),
    ],
)
def test_what_does_not_fit_says_so(config, message):
    with pytest.raises(ValueError, match=message):
        tuned('vit', dict(type='toast_mm.PEFT', config=config))


def test_dropout_that_would_not_act_beside_feedback():
    with pytest.raises(
        ValueError, match=r'rank_dropout=0\.5 of LOHA would not act beside feedback'
    ):
        tuned('vit', peft('LOHA', rank_dropout=0.5), feedback_from='last')


@pytest.mark.filterwarnings('ignore:`lora_bias=True` was passed but')
def test_what_peft_cannot_merge():
    biased = peft('LORA', lora_bias=True)
    backbone = tuned('vit', biased, qkv_bias=False)
    with pytest.raises(
        ValueError, match=r'LORA of layers\.0\.attn\.qkv cannot be merged by peft: '
    ):
        backbone.merge()
    with pytest.raises(
        ValueError, match=r'LORA of layers\.0\.attn\.qkv cannot be merged by peft: '
    ):
        tuned('vit', biased, qkv_bias=False, feedback_from='last')


def test_layers_of_other_classes_are_refused():
    class Doubled(nn.Linear):
        pass

    backbone = tuned('vit', None)
    backbone.layers[1].attn.qkv = Doubled(24, 72).double()
    with pytest.raises(
        ValueError, match=r'does not fit layers\.1\.attn\.qkv, which is a .*Doubled'
    ):
        PEFT(dict(peft_type='LORA')).inject(backbone)
    assert type(backbone.layers[0].attn.qkv) is nn.Linear


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'peft', None)
    with pytest.raises(ImportError, match=r'pip install "toast_mm\[peft\]"'):
        PEFT(dict(peft_type='LORA'))
