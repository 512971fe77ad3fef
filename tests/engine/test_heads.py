import pytest
from mmcv.transforms import Pad
from mmengine.evaluator import Evaluator
from mmpretrain.models import LinearClsHead, MultiLabelLinearClsHead
from mmseg.datasets.transforms import RandomRotate
from mmseg.evaluation import IoUMetric
from mmseg.models import SegDataPreProcessor
from mmseg.models.decode_heads import FCNHead, STDCHead
from torch import nn

from toast_mm.engine.heads import (
    disagreement,
    label_heads,
    learned_padding,
    learns_nothing,
    other_ignored,
    wrong_padding,
)


def head(num_classes: int = 3, kind=FCNHead, **settings) -> FCNHead:
    return kind(
        num_convs=0, kernel_size=1, concat_input=False, in_channels=2, channels=2,
        num_classes=num_classes, **settings
    )  # fmt: skip


class EdgeHead(FCNHead):
    """Makes edges of the labels."""

    def loss_by_feat(self, seg_logits, batch_data_samples) -> dict:
        return {}


def model(preprocessor: nn.Module | None = None, **heads) -> nn.Module:
    module = nn.Module()
    module.data_preprocessor = preprocessor
    for name, part in heads.items():
        setattr(module, name, nn.ModuleList(part) if isinstance(part, list) else part)
    return module


def test_all_heads_are_found():
    auxiliary = [head(), head()]
    found = label_heads(model(decode_head=[head(3), head(4)], auxiliary_head=auxiliary))
    assert [*found] == ['decode_head.1', 'decode_head.0', 'auxiliary_head.1', 'auxiliary_head.0']
    assert found['decode_head.1'].num_classes == 4  # the last of a cascade predicts
    assert [*label_heads(model(head=LinearClsHead(3, 2)))] == ['head']
    assert label_heads(model(head=nn.Linear(1, 1))) == {}


@pytest.mark.parametrize(
    'heads, sentence',
    [
        (
            dict(decode_head=head(5), auxiliary_head=head(3)),
            'model.decode_head.num_classes is 5, but model.auxiliary_head.num_classes is 3',
        ),
        (
            dict(decode_head=head(3), auxiliary_head=[head(3), head(3, ignore_index=0)]),
            'model.decode_head.ignore_index is 255, but model.auxiliary_head.1.ignore_index is 0',
        ),
        (
            dict(decode_head=[head(3), head(4)]),
            'model.decode_head.1.num_classes is 4, but model.decode_head.0.num_classes is 3',
        ),
    ],
)
def test_disagreement(heads, sentence):
    assert disagreement(label_heads(model(**heads))) == (
        f'{sentence}: both learn from the same labels'
    )


def test_heads_with_targets_of_their_own():
    auxiliary = [head(3), head(4, STDCHead), head(4, EdgeHead)]
    assert disagreement(label_heads(model(decode_head=head(3), auxiliary_head=auxiliary))) is None
    assert disagreement({}) is None


@pytest.mark.filterwarnings('ignore:threshold is not defined')
def test_one_class():
    sigmoid = dict(type='CrossEntropyLoss', use_sigmoid=True)
    for part in (dict(decode_head=head(1)), dict(head=LinearClsHead(1, 2))):
        (name,) = part
        assert learns_nothing(label_heads(model(**part))) == (
            f'model.{name} has one class, whose softmax is always 1, and learns nothing: make '
            'the background a second class (num_classes=2)'
        )
    for part in (
        dict(decode_head=head(1, loss_decode=sigmoid)),
        dict(decode_head=head(3)),
        dict(head=LinearClsHead(2, 2)),
        dict(head=MultiLabelLinearClsHead(1, 2)),
    ):
        assert learns_nothing(label_heads(model(**part))) is None


@pytest.mark.parametrize(
    'size, pad, wrong', [((8, 8), 0, True), ((8, 8), 255, False), (None, 0, 0)]
)
def test_padding(size, pad, wrong):
    segmentor = model(SegDataPreProcessor(size=size, seg_pad_val=pad), decode_head=head())
    sentence = wrong_padding(segmentor, label_heads(segmentor))
    assert sentence == (
        'model.data_preprocessor.seg_pad_val is 0, but model.decode_head.ignore_index is 255: '
        'the head would learn from padding' if wrong else None
    )  # fmt: skip


def test_metric():
    evaluator = Evaluator([IoUMetric(ignore_index=255)])
    assert other_ignored(evaluator, dict(decode_head=head())) is None
    assert other_ignored(evaluator, dict(decode_head=head(ignore_index=0))) == (
        'the metric IoUMetric has ignore_index=255, but model.decode_head has 0'
    )


@pytest.mark.parametrize(
    'transform, ignored, sentence',
    [
        (
            Pad(size=(8, 8), pad_val=dict(img=0, seg=0)),
            255,
            'Pad pads masks with 0, but model.decod',
        ),
        (RandomRotate(0.5, 30, seg_pad_val=2), 255, 'RandomRotate pads masks with 2, but model.'),
        (Pad(size=(8, 8)), 1, 'Pad pads masks with 255, but model.decode_head.ignore_index is 1: '),
        (Pad(size=(8, 8), pad_val=0), 255, None),
        (RandomRotate(0.5, 30), 255, None),
        (object(), 255, None),
    ],
)
def test_padding_of_transforms(transform, ignored, sentence):
    found = learned_padding([transform], label_heads(model(decode_head=head(ignore_index=ignored))))
    assert found is None if sentence is None else found.startswith(sentence)
    assert learned_padding([transform], label_heads(model(head=LinearClsHead(3, 2)))) is None
