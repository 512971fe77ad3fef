"""What timm knows of a model: its weights on the Hugging Face Hub."""

import pytest
import timm
import torch
from safetensors.torch import save

from toast_mm.checkpoint import CheckpointError
from toast_mm.models import TOASTTimm
from toast_mm.models.backbones.timm_models import weights_on_the_hub

NAME = 'vit_tiny_patch16_224'
REPOSITORY = 'timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k'
SIZES = dict(embed_dim=48, depth=2, num_heads=4, img_size=32)


def test_pretrained_weights_are_loaded_when_weights_are_initialised(hub):
    torch.manual_seed(0)
    weights = timm.create_model(NAME, **SIZES).state_dict()  # with its classifier
    hub.add(REPOSITORY, model=save(weights))
    backbone = TOASTTimm(NAME, pretrained=True, **SIZES)
    assert not hub.requests  # inference loads a whole checkpoint
    assert backbone.pretrained == [dict(type='Pretrained', checkpoint=f'hf://{REPOSITORY}')]
    backbone.init_weights()
    own = backbone.model.state_dict()
    assert len(own) == len(weights) - 2
    assert all(torch.equal(tensor, weights[name]) for name, tensor in own.items())


def test_weights_that_do_not_cover_the_model(hub):
    weights = timm.create_model(NAME, **SIZES).state_dict()
    weights.pop('blocks.1.mlp.fc1.bias')
    hub.add(REPOSITORY, model=save(weights))
    with pytest.raises(CheckpointError, match=r'model\.blocks\.1\.mlp\.fc1\.bias'):
        TOASTTimm(NAME, pretrained=True, **SIZES).init_weights()


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        (NAME, f'hf://{REPOSITORY}'),
        (f'{NAME}.augreg_in21k', f'hf://timm/{NAME}.augreg_in21k'),
        ('vit_base_patch14_reg4_dinov2', 'hf://timm/vit_base_patch14_reg4_dinov2.lvd142m'),
    ],
)
def test_weights_on_the_hub(name, expected):
    assert weights_on_the_hub(name) == expected


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            dict(init_cfg=dict(type='Pretrained', checkpoint='mine.pth')),
            r"pretrained=True takes the weights that timm names, and init_cfg=\{'type': "
            r"'Pretrained', 'checkpoint': 'mine\.pth'\} others: leave out one of them",
        ),
        (
            dict(model_name='vit_base_patch16_gap_224'),
            'timm names no weights of vit_base_patch16_gap_224 on the Hugging Face Hub: leave out ',
        ),
        (
            dict(model_name=f'{NAME}.mine'),
            rf"model_name='{NAME}\.mine' has no such weights in timm; there are: "
            rf'{NAME}\.augreg_in21k, {NAME}\.augreg_in21k_ft_in1k',
        ),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        TOASTTimm(**{'model_name': NAME, 'pretrained': True, **SIZES, **arguments})
