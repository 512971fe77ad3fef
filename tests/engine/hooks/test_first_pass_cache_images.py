"""First passes belong to their images, in models that see other images than the batch."""

import copy

import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.structures import PixelData
from mmpretrain.models import ImageClassifier
from mmseg.structures import SegDataSample
from toy_images import MEAN, STD

from toast_mm.registry import DATASETS, METRICS, MODELS, TRANSFORMS

CROP = dict(mode='slide', crop_size=(16, 16), stride=(8, 8))


@DATASETS.register_module(force=True)
class ToyScenes(BaseDataset):
    """Four images of 24 x 24 pixels."""

    METAINFO = dict(classes=('a', 'b', 'c'), palette=[[0, 0, 0], [255, 0, 0], [0, 0, 255]])

    def load_data_list(self) -> list[dict]:
        generator = torch.Generator().manual_seed(0)
        images = 255 * torch.rand(4, 24, 24, 3, generator=generator)
        return [dict(img=image.to(torch.uint8).numpy()) for image in images]


@TRANSFORMS.register_module(force=True)
class PackToyScene(BaseTransform):
    def transform(self, results: dict) -> dict:
        image = torch.from_numpy(results['img']).permute(2, 0, 1)
        size = dict(img_shape=(24, 24), ori_shape=(24, 24))
        sample = SegDataSample(metainfo=size | dict(img_path=str(results['sample_idx'])))
        sample.gt_sem_seg = PixelData(data=(image[:1] > 127).long())
        return dict(inputs=image, data_samples=sample)


@METRICS.register_module(force=True)
class KeepLogits(BaseMetric):
    """Records the logits of every image and the work of every batch."""

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        self.results += [sample['seg_logits']['data'] for sample in data_samples]

    def compute_metrics(self, results: list) -> dict:
        self.logits = torch.stack(results)
        return dict(mean=self.logits.mean().item())


@MODELS.register_module(force=True)
class OnBothSides(ImageClassifier):
    """A classifier that looks at each image twice: as it is, and mirrored or once more."""

    def __init__(self, *args, mirrored: bool, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.mirrored = mirrored

    def extract_feat(self, inputs, stage='neck'):
        other = inputs.flip(-1) if self.mirrored else inputs
        both = super().extract_feat(inputs), super().extract_feat(other)
        return tuple((one + other) / 2 for one, other in zip(*both, strict=True))


@pytest.fixture
def segmentor(steered_config, tmp_path):
    """Config of two steps on the scenes and a validation on them."""

    def make(cache=None, **test_cfg):
        cfg = steered_config(tmp_path / 'work', train_cfg__max_iters=2, train_cfg__val_interval=2)
        cfg.default_scope = 'mmseg'
        dataset = dict(type='toast_mm.ToyScenes', pipeline=[dict(type='toast_mm.PackToyScene')])
        cfg.train_dataloader.dataset = dataset
        cfg.val_dataloader = dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=dataset,
        )
        cfg.val_cfg, cfg.val_evaluator = dict(), dict(type='toast_mm.KeepLogits')
        backbone = dict(cfg.model.backbone, img_size=24, out_type='featmap', feedback_from='middle')
        cfg.model = dict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor', size=(24, 24), mean=MEAN, std=STD, bgr_to_rgb=True
            ),
            backbone=backbone,
            decode_head=dict(
                type='FCNHead', in_channels=16, in_index=0, channels=8, num_classes=3, num_convs=1
            ),
            test_cfg=test_cfg,
        )
        if cache is not None:
            cfg.first_pass_cache = dict(folder=str(tmp_path / 'cache'), dtype='float32', **cache)
        return cfg

    return make


def validate(runner):
    """Logits of the last validation, and the layers that another one runs for a batch."""
    logits = runner.val_evaluator.metrics[0].logits
    calls = []
    for layer in runner.model.backbone.layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    batch = next(iter(runner.val_dataloader))
    with torch.no_grad():
        runner.model.eval().val_step(batch)
    return logits, len(calls)


@pytest.mark.parametrize(
    ('test_cfg', 'plain', 'cached'),
    [
        (dict(mode='whole'), 6, 4),  # layers: both passes of the early route, and the second alone
        (CROP, 4 * 6, 4 * 6),  # windows do not use the cache
    ],
)
def test_logits_of_the_validation_are_those_without(
    segmentor, run, test_cfg, plain, cached, capsys
):
    expected, layers = validate(run(segmentor(None, **test_cfg)))
    assert layers == plain and expected.std() > 0.01
    cfg = segmentor({}, **test_cfg)
    cfg.log_level = 'INFO'
    logits, layers = validate(run(cfg))
    assert layers == cached
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    said = capsys.readouterr().out.count('the backbone sees sliding windows of every image')
    assert said == (test_cfg['mode'] == 'slide')


def test_logits_of_windows_after_the_training(segmentor, run):
    """Samples that name a first pass, in a model that was set to windows later."""
    runner = run(segmentor({}, mode='whole'))
    batch = next(iter(runner.val_dataloader))
    runner.model.test_cfg.update(CROP)
    with torch.no_grad(), pytest.raises(ValueError, match=r'images \(2, 3, 16, 16\) are not those'):
        runner.model.eval().val_step(batch)
    for sample in batch['data_samples']:
        sample.pop('first_pass')
    with torch.no_grad():
        assert len(runner.model.val_step(batch)) == 2


def classifier(job, cache, mirrored, tmp_path):
    cfg = job(tmp_path / 'work', train_cfg__max_iters=3)
    cfg.train_dataloader.dataset = dict(
        type='toast_mm.ToyScenesOfClasses',
        pipeline=[dict(type='mmpretrain.PackInputs')],
    )
    cfg.model.update(type='toast_mm.OnBothSides', mirrored=mirrored)
    cfg.model.backbone.img_size = 24
    if cache:
        cfg.first_pass_cache = dict(folder=str(tmp_path / 'cache'), dtype='float32')
    return cfg


@DATASETS.register_module(force=True)
class ToyScenesOfClasses(ToyScenes):
    def load_data_list(self) -> list[dict]:
        return [dict(info, gt_label=i % 2) for i, info in enumerate(super().load_data_list())]


def test_a_model_that_looks_twice_at_the_same_images(steered_config, run, tmp_path):
    weights = [
        run(classifier(steered_config, cache, False, tmp_path)).model.state_dict()
        for cache in (False, True)
    ]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-4, atol=1e-5)


def test_a_model_that_looks_at_other_images_is_an_error(steered_config, run, tmp_path):
    with pytest.raises(ValueError, match=r'images \(2, 3, 24, 24\) are not those that the first'):
        run(classifier(steered_config, True, True, tmp_path))


def test_after_an_interruption_the_model_is_as_it_was(segmentor, run):
    runner = run(segmentor({}, mode='whole'))
    model = runner.model.eval()
    batch = next(iter(runner.val_dataloader))
    images = torch.stack(batch['inputs'])
    with torch.no_grad():
        expected = model.val_step(dict(inputs=1 * images, data_samples=None))

        def interrupt(*args):
            raise KeyboardInterrupt

        handle = model.decode_head.conv_seg.register_forward_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.val_step(batch)
        handle.remove()
        again = model.val_step(dict(inputs=1 * images, data_samples=None))
    for one, other in zip(again, expected, strict=True):
        assert torch.equal(one.seg_logits.data, other.seg_logits.data)


def test_a_copy_of_the_model_uses_its_own_backbone(segmentor, run):
    runner = run(segmentor({}, mode='whole'))
    twin = copy.deepcopy(runner.model)
    batch = next(iter(runner.val_dataloader))
    calls = []
    for layer in runner.model.backbone.layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        twin.eval().val_step(batch)
    assert not calls
