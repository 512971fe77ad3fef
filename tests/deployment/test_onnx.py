"""Exported models in onnxruntime, against the models that they were made of."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from small_backbones import KINDS

from toast_mm.deployment import Deployable, export_onnx
from toast_mm.deployment import onnx as module
from toast_mm.files import WriteError
from toast_mm.models import TOASTTimm

MEAN, STD = [120.0, 110.0, 100.0], [60.0, 50.0, 40.0]
VIT = dict(
    type='toast_mm.TOASTViT',
    arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32),
    img_size=32,
    patch_size=8,
)
CONVNEXT = dict(
    type='toast_mm.TOASTConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[4, 6, 8, 10])
)
TIMM = {'timm': 24, 'eva': 24, 'stages': 12, 'swin': 48, 'batch norm': 256}  # width of the output


def build(scope, cfg):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(ConfigDict(cfg))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def classifier(kind, **arguments):
    backbone, head, dim = {
        'vit': (VIT, 'VisionTransformerClsHead', 16),
        'convnext': (CONVNEXT, 'LinearClsHead', 10),
        'plain': (dict(VIT, feedback_from=None), 'VisionTransformerClsHead', 16),
        **{
            kind: (dict(KINDS[kind][2], type=TOASTTimm), 'LinearClsHead', width)
            for kind, width in TIMM.items()
        },
    }[kind]
    return build(
        'mmpretrain',
        dict(
            type='ImageClassifier',
            data_preprocessor=dict(type='ClsDataPreprocessor', mean=MEAN, std=STD, to_rgb=True),
            backbone=dict(backbone, **arguments),
            head=dict(type=head, num_classes=5, in_channels=dim),
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize('bands', [1, 6])
def test_images_of_other_bands(tmp_path, bands):
    model = build(
        'mmpretrain',
        dict(
            type='ImageClassifier',
            data_preprocessor=dict(
                type='toast_mm.BandClsDataPreprocessor', mean=[100.0] * bands, std=[50.0] * bands
            ),
            backbone=dict(VIT, in_channels=bands),
            head=dict(type='VisionTransformerClsHead', num_classes=5, in_channels=16),
        ),
    )
    images = 255 * torch.rand(2, bands, 32, 32)
    expected = model(model.data_preprocessor(dict(inputs=images))['inputs'], mode='tensor')
    deployable = Deployable(model)
    assert export_onnx(deployable, str(tmp_path / 'a.onnx'), (32, 32)) < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / 'a.onnx'))
    scores = session.run(None, {'images': images.numpy()})[0]
    np.testing.assert_allclose(scores, expected.detach().numpy(), rtol=1e-3, atol=1e-4)


def segmentor(kind='vit', first_pass=None, **test_cfg):
    backbone, channels = {
        'vit': (dict(VIT, out_type='featmap'), [16] * 4),
        'convnext': (dict(CONVNEXT, gap_before_final_norm=False), [4, 6, 8, 10]),
    }[kind]
    norm = dict(type='SyncBN')
    return build(
        'mmseg',
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor', mean=MEAN, std=STD, bgr_to_rgb=True, size=(32, 32)
            ),
            backbone=dict(backbone, out_indices=[0, 1, 2, 3], first_pass=first_pass),
            decode_head=dict(
                type='UPerHead',
                in_channels=channels,
                in_index=[0, 1, 2, 3],
                pool_scales=(1, 2, 3),
                channels=8,
                num_classes=4,
                norm_cfg=norm,
                align_corners=False,
            ),
            test_cfg=dict(test_cfg or dict(mode='whole')),
        ),
    )


def images(batch=3, size=(32, 32)):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (batch, 3, *size)).astype(np.float32)


def run(path, batch):
    return onnxruntime.InferenceSession(str(path)).run(['scores'], {'images': batch})[0]


def normed(batch):
    return (torch.from_numpy(batch) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(
        3, 1, 1
    )


def close(given, expected):
    assert np.abs(given - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    'kind',
    [
        'vit',
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in ('convnext', 'plain', *TIMM)
            if kind != 'eva'  # takes longest, and is below
        ),
    ],
)
def test_classifier(kind, tmp_path):
    model = classifier(kind)
    unfolded = copy.deepcopy(model)
    assert export_onnx(Deployable(model), str(tmp_path / 'model.onnx'), (32, 32)) <= 1e-4
    for number in (1, 2, 3):
        scores = run(tmp_path / 'model.onnx', images(number))
        assert scores.shape == (number, 5)
        with torch.no_grad():
            predicted = unfolded.predict(
                normed(images(number)), [DataSample() for _ in range(number)]
            )
        close(
            F.softmax(torch.from_numpy(scores), dim=1).numpy(),
            torch.stack([sample.pred_score for sample in predicted]).numpy(),
        )
    assert model.backbone.folded == (kind != 'plain')


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['vit', 'convnext', *TIMM])
def test_a_coarse_first_pass(kind, tmp_path):
    model = classifier(kind, first_pass=dict(scale=0.5))
    unfolded = copy.deepcopy(model)
    export_onnx(Deployable(model), str(tmp_path / 'model.onnx'), (64, 64))
    for number in (1, 3):
        batch = images(number, (64, 64))
        with torch.no_grad():
            expected = unfolded(normed(batch), mode='tensor')
        close(run(tmp_path / 'model.onnx', batch), expected.numpy())
    nodes = onnx.load(tmp_path / 'model.onnx').graph.node
    resizes = [node for node in nodes if node.op_type == 'Resize']
    smooth = [
        node for node in resizes if any(a.name == 'antialias' and a.i for a in node.attribute)
    ]
    receivers = len(unfolded.backbone.route.receivers)
    assert len(smooth) == 1 and len(resizes) == 1 + receivers  # the image, and every signal


@pytest.mark.slow
@pytest.mark.parametrize(
    ('kind', 'size', 'first_pass'),
    [
        ('vit', (40, 56), None),
        ('vit', (45, 60), dict(scale=0.5)),
        ('convnext', (70, 90), None),
        ('convnext', (70, 90), dict(scale=0.6)),
    ],
)
def test_segmentor(kind, size, first_pass, tmp_path):
    model = segmentor(kind, first_pass=first_pass)
    unfolded = copy.deepcopy(model)
    export_onnx(Deployable(model), str(tmp_path / 'model.onnx'), size)
    for number in (1, 3):
        scores = run(tmp_path / 'model.onnx', images(number, size))
        assert scores.shape == (number, 4, *size)
        with torch.no_grad():
            result = unfolded.predict(normed(images(number, size)))
        close(scores, torch.stack([sample.seg_logits.data for sample in result]).numpy())


def test_what_the_file_takes_is_said(tmp_path):
    model = Deployable(segmentor(mode='slide', crop_size=(32, 48), stride=(16, 16)))
    assert (model.channels, model.window) == ('RGB', (32, 48))
    plain = classifier('plain')
    plain.data_preprocessor = MODELS.build(dict(type='mmpretrain.ClsDataPreprocessor'))
    model = Deployable(plain)
    assert (model.channels, model.window) == ('channels as the pipeline loads them', None)
    batch = torch.from_numpy(images(2))
    with torch.no_grad():
        assert torch.equal(model(batch), plain.head(plain.extract_feat(batch)))


@pytest.mark.slow
def test_what_differs_is_not_kept(tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match=r'model\.onnx is not written: its scores differ from PyTorch by'
    ):
        export_onnx(
            Deployable(classifier('vit')), str(tmp_path / 'model.onnx'), (32, 32), tolerance=0
        )
    assert not list(tmp_path.iterdir())
    with pytest.raises(WriteError, match='cannot be written'):
        export_onnx(
            Deployable(classifier('vit')), str(tmp_path / 'absent' / 'model.onnx'), (32, 32)
        )
    monkeypatch.setitem(module.__dict__['os'].sys.modules, 'onnxscript', None)
    with pytest.raises(ImportError, match=r'pip install "toast_mm\[onnx\]"'):
        export_onnx(Deployable(classifier('vit')), str(tmp_path / 'model.onnx'), (32, 32))
