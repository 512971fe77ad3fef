"""What a checkpoint must hold to be loaded into a steered backbone."""

import logging

import pytest
import torch
from mmengine.model import PretrainedInit
from mmengine.runner import load_checkpoint
from mmpretrain.models import VisionTransformer

from toast_mm.checkpoint import CheckpointError
from toast_mm.models import TOASTViT

ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
SIZES = dict(arch=ARCH, img_size=16, patch_size=8)


@pytest.fixture
def base(tmp_path):
    """File of a trained mmpretrain ViT with a head, and the ViT."""
    torch.manual_seed(1)
    vit = VisionTransformer(**SIZES)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter)
    state_dict = {f'backbone.{name}': tensor for name, tensor in vit.state_dict().items()}
    state_dict['head.fc.weight'] = torch.zeros(2, 16)
    torch.save({'state_dict': state_dict}, tmp_path / 'base.pth')
    return str(tmp_path / 'base.pth'), vit.state_dict()


def is_loaded(backbone, weights) -> bool:
    own = backbone.state_dict()
    return all(torch.equal(own[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize('type_', ['Pretrained', PretrainedInit])
@pytest.mark.parametrize('as_list', [False, True])
def test_every_form_of_init_cfg_loads_every_weight(base, type_, as_list):
    """Under a list mmpretrain itself would draw the position embedding anew after loading."""
    file, weights = base
    init_cfg = dict(type=type_, checkpoint=file, prefix='backbone')
    backbone = TOASTViT(**SIZES, init_cfg=[init_cfg] if as_list else init_cfg)
    assert not is_loaded(backbone, weights)
    backbone.init_weights()
    assert is_loaded(backbone, weights)


def test_init_cfg_of_a_config_that_is_inherited_by_package_name(base):
    file, weights = base
    init_cfg = dict(type='Pretrained', checkpoint=file, prefix='backbone.', _scope_='toast_mm')
    backbone = TOASTViT(**SIZES, init_cfg=init_cfg)
    backbone.init_weights()
    assert is_loaded(backbone, weights)


def test_other_initialisers_still_work(base):
    file, weights = base
    init_cfg = [
        dict(type='Constant', layer='Linear', val=7.0),
        dict(type='Pretrained', checkpoint=file, prefix='backbone.'),
    ]
    backbone = TOASTViT(**SIZES, init_cfg=init_cfg)
    backbone.init_weights()
    assert is_loaded(backbone, weights)
    assert (backbone.topdown.feedback.layers['0'].emit.weight == 7).all()


def test_loading_a_base_raises_no_false_alarm(base, caplog):
    file, _ = base
    backbone = TOASTViT(
        **SIZES, init_cfg=dict(type='Pretrained', checkpoint=file, prefix='backbone.')
    )
    with caplog.at_level(logging.WARNING):
        backbone.init_weights()
    assert not caplog.records


def test_a_misspelt_key_of_init_cfg_is_an_error(base):
    backbone = TOASTViT(
        **SIZES, init_cfg=dict(type='Pretrained', checkpoint=base[0], prefixes='backbone.')
    )
    with pytest.raises(TypeError, match='prefixes'):
        backbone.init_weights()


@pytest.mark.parametrize(
    'other, sentence',
    [
        (dict(feedback_from='middle'), r'missing: topdown\.feedback\.layers\.2\.descend'),
        (dict(feedback_from='last'), None),
        (dict(feedback_from=None), None),
    ],
)
def test_the_module_of_a_task_must_fit_by_whatever_way_it_comes(tmp_path, other, sentence):
    torch.save(TOASTViT(**SIZES, **other).state_dict(), tmp_path / 'task.pth')
    backbone = TOASTViT(**SIZES)
    if sentence is None:
        load_checkpoint(backbone, str(tmp_path / 'task.pth'))
    else:
        with pytest.raises(CheckpointError, match=sentence):
            load_checkpoint(backbone, str(tmp_path / 'task.pth'))


def test_the_module_of_a_longer_route_is_refused(tmp_path):
    torch.save(TOASTViT(**SIZES).state_dict(), tmp_path / 'task.pth')
    backbone = TOASTViT(**SIZES, feedback_from='middle')
    with pytest.raises(CheckpointError, match=r'more than this backbone has: topdown\..*layers\.2'):
        load_checkpoint(backbone, str(tmp_path / 'task.pth'))
