"""InCA on backbones of other packages: they must be frozen."""

import copy

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample

from toast_mm.models import InCADecodeHead, InCAHead, TOASTConvNeXt

CHANNELS = (32, 32, 48, 192, 96)
TIMM = dict(type='TIMMBackbone', model_name='test_resnet', features_only=True, pretrained=False)
VIT = dict(
    type='VisionTransformer',
    arch=dict(embed_dims=12, num_layers=2, num_heads=2, feedforward_channels=16),
    img_size=16,
    patch_size=8,
    out_type='raw',
    out_indices=[0, 1],
)
# The lower stages of a classifier have no norm, so that those of a dense ConvNeXt train.
CONVNEXT = dict(
    type='toast_mm.TOASTConvNeXt',
    arch=dict(depths=[1, 1], channels=[8, 12]),
    feedback_from=None,
    gap_before_final_norm=False,
    out_indices=[0, 1],
)
KINDS = {
    'timm': (TIMM, CHANNELS, 'output 0 of this one depends on weights that train'),
    'mmpretrain': (VIT, (12, 12), 'output 0 of this one depends on weights that train'),
    'ours, not frozen': (dict(CONVNEXT, frozen=False), (8, 12), 'output 0 of this one depends on'),
    'ours, frozen': (CONVNEXT, (8, 12), None),
}
WRAPPED = "FrozenBackbone', backbone=dict"


def classifier(backbone, channels, **head):
    adapter = dict(embed_dims=8, num_heads=2)
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=copy.deepcopy(backbone),
            head=dict(
                type='toast_mm.InCAHead',
                num_classes=2,
                in_channels=[*channels],
                num_layers=len(channels),
                adapter=adapter,
                **head,
            ),
        )
    )


def batch():
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return images, [DataSample().set_gt_label(label) for label in (0, 1, 1, 0)]


def step(model):
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    images, samples = batch()
    sum(model.loss(images[..., :16, :16] if is_vit(model) else images, samples).values()).backward()
    optimizer.step()


def is_vit(model):
    return any('pos_embed' in name for name in model.state_dict())


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.mark.parametrize('kind', KINDS)
def test_a_backbone_that_trains_is_refused(kind):
    backbone, channels, complaint = KINDS[kind]
    model = classifier(backbone, channels)
    if complaint is None:
        step(model)
        return
    with pytest.raises(ValueError, match=complaint) as error:
        step(model)
    assert WRAPPED in str(error.value)
    step(classifier(backbone, channels, tuned_backbone=True))


@pytest.mark.parametrize('kind', ['timm', 'mmpretrain'])
def test_frozen_it_stays_as_it_is(kind):
    """Weights and statistics; the outputs are those of the backbone in eval mode."""
    backbone, channels, _ = KINDS[kind]
    model = classifier(dict(type='toast_mm.FrozenBackbone', backbone=backbone), channels)
    before = copy.deepcopy(model.state_dict())
    step(model)
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed and all(name.startswith('head.') for name in changed)
    assert kind != 'timm' or any('running_mean' in name for name in before)
    assert model.training and not any(m.training for m in model.backbone.backbone.modules())
    alone = MODELS.build(copy.deepcopy(backbone))
    start = 'backbone.backbone.'
    own = {n.removeprefix(start): t for n, t in before.items() if n.startswith(start)}
    alone.load_state_dict(own)
    alone.eval()
    images = batch()[0][..., :16, :16]
    for given, expected in zip(model.backbone(images), alone(images), strict=True):
        assert torch.equal(given, expected) and not given.requires_grad


def test_the_dense_head_refuses_as_well():
    with DefaultScope.overwrite_default_scope('mmseg'):
        head = InCADecodeHead([8, 12], 8, in_index=[0, 1], num_classes=3, num_heads=2)
    mask = PixelData(data=torch.zeros(1, 32, 32, dtype=torch.long))
    samples = [SegDataSample(gt_sem_seg=mask)]
    arguments = {name: value for name, value in CONVNEXT.items() if name != 'type'}
    image = batch()[0][:1]
    frozen = TOASTConvNeXt(**arguments)
    assert len(head.loss(frozen(image), samples, {})) == 4
    with pytest.raises(ValueError, match='InCADecodeHead adapts a frozen backbone'):
        head.loss(TOASTConvNeXt(**arguments, frozen=False)(image), samples, {})


def test_inference_does_not_check():
    model = classifier(TIMM, CHANNELS).eval()
    images, samples = batch()
    assert len(model.predict(images, samples)) == 4
    assert isinstance(model.head, InCAHead)
