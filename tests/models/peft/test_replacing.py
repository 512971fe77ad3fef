"""Replaced layers keep their parameters, their hooks and references to both."""

import copy
import pickle
from functools import partial

import pytest
import torch
from mmcv.cnn import Linear
from small_backbones import tuned
from torch import nn

from toast_mm.models import SSF, VPT, AdaptFormer, LoRA
from toast_mm.models.layers import replace_layers
from toast_mm.models.peft.base import MergeableLayer
from toast_mm.models.peft.lora import LoRALinear

PLACES = [
    (LoRA(rank=2), 'layers.1.attn.qkv'),
    (SSF(), 'layers.1.ln1'),
    (SSF(), 'patch_embed.projection'),
    (AdaptFormer(bottleneck=2), 'layers.1.ffn'),
]


@pytest.mark.parametrize(('method', 'place'), PLACES)
def test_parameters_are_the_same_ones_and_new_ones_are_like_them(method, place):
    backbone = tuned('vit', None)
    before, layer = dict(backbone.named_parameters()), backbone.get_submodule(place)
    own = {name: layer.state_dict()[name].data_ptr() for name in layer.state_dict()}
    method.inject(backbone)
    after = dict(backbone.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert backbone.get_submodule(place) is not layer
    # The old layer has not changed.
    assert {name: tensor.data_ptr() for name, tensor in layer.state_dict().items()} == own
    added = {name: tensor for name, tensor in backbone.state_dict().items() if name not in before}
    assert added and {tensor.dtype for tensor in added.values()} == {torch.double}
    assert all(p.requires_grad == (name in added) for name, p in after.items())
    assert not backbone.get_submodule(place).training  # as the layer was


@pytest.mark.parametrize(('method', 'place'), [*PLACES, (VPT(num_prompts=3), 'layers.1')])
def test_hooks_go_on_acting_and_can_be_removed(method, place, image):
    backbone = tuned('vit', None)
    layer = backbone.get_submodule(place)
    seen = []
    handles = [
        layer.register_forward_hook(lambda module, args, output: seen.append(module) or 2 * output),
        layer.register_full_backward_hook(lambda module, *gradients: seen.append('backward')),
        layer.register_load_state_dict_pre_hook(lambda module, *args: seen.append(module)),
        layer.register_state_dict_post_hook(lambda module, *args: seen.append('saved')),
    ]
    del layer
    method.inject(backbone)
    new = backbone.get_submodule(place)
    hooked = backbone(image.requires_grad_())[0]
    hooked.sum().backward()
    state = backbone.state_dict()
    backbone.load_state_dict(state)
    assert seen[:3] == [new, 'backward', 'saved'] and seen[-1] is new
    seen.clear()
    for handle in handles:
        handle.remove()
    assert not torch.allclose(backbone(image)[0], hooked)
    backbone.load_state_dict(backbone.state_dict())
    assert seen == []


@pytest.mark.parametrize('method', [LoRA(rank=2), SSF()])
def test_hooks_stay_where_a_layer_is_merged(method, image):
    backbone = tuned('vit', None)
    seen = []
    backbone.layers[1].attn.qkv.register_forward_hook(lambda module, *args: seen.append(module))
    method.inject(backbone)
    parameter = backbone.layers[1].attn.qkv.weight
    backbone.merge()(image)
    assert seen == [backbone.layers[1].attn.qkv]
    assert type(seen[0]) is nn.Linear and seen[0].weight is parameter


def test_a_merged_layer_is_what_was_there():
    layer = Linear(4, 3)
    layer.note = 'from its owner'
    layer.eval()
    merged = LoRALinear.from_linear(layer, rank=2).merge()
    assert type(merged) is Linear and not merged.training
    assert vars(merged).keys() == vars(layer).keys()
    assert merged.weight is layer.weight and merged.note == 'from its owner'


def test_a_layer_under_two_names_is_replaced_under_both():
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict(dict(one=shared, deep=nn.Sequential(shared, nn.Linear(4, 4))))
    new = LoRALinear.from_linear(shared, rank=1)
    replace_layers(model, {shared: new})
    assert model['one'] is new and model['deep'][0] is new
    assert list(model['deep'].state_dict()) == [
        *(f'0.{name}' for name in ('weight', 'bias', 'scaling')),
        *('0.lora_down.weight', '0.lora_up.weight', '1.weight', '1.bias'),
    ]


def test_nothing_is_replaced_where_one_layer_is_refused():
    backbone = tuned('vit', None)
    backbone.layers[2].attn.qkv.forward = lambda x: x
    with pytest.raises(ValueError, match=r'does not fit layers\.2\.attn\.qkv'):
        LoRA().inject(backbone)
    assert not any(isinstance(module, MergeableLayer) for module in backbone.modules())


def test_what_wraps_a_tuned_layer_would_be_lost_in_merging():
    backbone = tuned('vit', dict(type='toast_mm.LoRA'))
    layer = backbone.layers[2].attn.qkv
    layer.forward = partial(layer.forward)
    with pytest.raises(ValueError, match='a LoRALinear cannot be merged, since its forward was'):
        backbone.merge()
    assert type(backbone.layers[0].attn.qkv) is LoRALinear


@pytest.mark.parametrize(
    'tuning',
    [dict(type='toast_mm.LoRA'), dict(type='toast_mm.SSF'), dict(type='toast_mm.AdaptFormer')],
)
def test_pickles_and_copies_keep_shared_parameters(tuning, image):
    backbone = tuned('vit', tuning, feedback_from='last')
    for twin in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        assert torch.equal(twin(image)[0], backbone(image)[0])
        assert [type(m) for m in twin.modules()] == [type(m) for m in backbone.modules()]


@pytest.mark.parametrize('rows', [slice(None), slice(-24, None), slice(3, 5)])
@pytest.mark.parametrize('method', ['LoRA', 'SSF'])
def test_the_effective_weight_is_that_of_a_plain_layer(method, rows):
    """Whole or in part."""
    backbone = tuned('vit', dict(type=f'toast_mm.{method}'))
    layer = backbone.layers[0].attn.qkv
    weight, bias = layer.effective_weight(rows)
    x = torch.randn(5, 24, dtype=torch.double)
    torch.testing.assert_close(nn.functional.linear(x, weight, bias), layer(x)[:, rows])
    assert not torch.allclose(weight, layer.weight[rows])


@pytest.mark.parametrize('method', ['LoRA', 'SSF'])
def test_an_effective_weight_compiles_to_one_graph(method):
    torch._dynamo.reset()
    layer = tuned('vit', dict(type=f'toast_mm.{method}')).layers[0].attn.qkv
    compiled = torch.compile(layer.effective_weight, fullgraph=True, backend='eager')
    for one, other in zip(
        compiled(slice(-24, None)), layer.effective_weight(slice(-24, None)), strict=True
    ):
        torch.testing.assert_close(one, other)
