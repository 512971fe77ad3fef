"""Wrong labels end a run before it saves anything."""

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from toast_mm.engine import Runner

CLASSES = ('road', 'car')


@pytest.fixture
def job(toy_config, tmp_path):
    """Train a small segmentor of two classes on masks of the given labels, 8 images of 8 x 8."""

    def make(labels: list[int], val: list[int] = [0, 1], **changes) -> Config:  # noqa: B006
        for part, values in (('train', labels), ('val', val)):
            for index in range(8):
                for name, array in (
                    ('images', np.full((8, 8, 3), 31 * index, np.uint8)),
                    ('masks', np.resize(np.array(values, np.uint8), (8, 8))),
                ):
                    (tmp_path / part / name).mkdir(parents=True, exist_ok=True)
                    Image.fromarray(array).save(tmp_path / part / name / f'{index}.png')
        cfg = toy_config(tmp_path / 'run', default_scope='mmseg')
        head = dict(
            type='FCNHead', in_channels=8, channels=8, num_convs=0, concat_input=False,
            num_classes=2, out_channels=2, threshold=0.5,
        )  # fmt: skip
        cfg.model = dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor', size=(8, 8)),
            backbone=dict(
                type='mmseg.UNet', base_channels=8, num_stages=2, strides=(1, 1),
                downsamples=(True,), enc_num_convs=(1, 1), dec_num_convs=(1,),
                enc_dilations=(1, 1), dec_dilations=(1,),
            ),
            decode_head=head,
            test_cfg=dict(mode='whole'),
        )  # fmt: skip
        pipeline = [
            dict(type=f'toast_mm.{name}') for name in ('LoadImageFromFile', 'LoadAnnotations')
        ]
        for part in ('train', 'val'):
            cfg[f'{part}_dataloader'].dataset = dict(
                type='BaseSegDataset',
                data_root=str(tmp_path / part),
                data_prefix=dict(img_path='images', seg_map_path='masks'),
                img_suffix='.png',
                metainfo=dict(classes=CLASSES, palette=[[0, 0, 0], [1, 1, 1]]),
                pipeline=[*pipeline, dict(type='PackSegInputs')],
            )
        cfg.val_evaluator = dict(type='IoUMetric')
        for key in ('dataloader', 'evaluator', 'cfg'):
            cfg[f'test_{key}'] = None
        cfg.default_hooks.checkpoint = dict(
            type='CheckpointHook', interval=100, save_best='mIoU', by_epoch=False, save_last=False
        )
        cfg.train_cfg = dict(by_epoch=False, max_iters=6, val_interval=2)
        cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
        return Config(cfg.to_dict())

    return make


def train(cfg: Config, word: str = 'occur') -> list[str]:
    """Warnings of a training that contain a word."""
    runner = Runner.from_cfg(cfg)
    lines: list[str] = []
    runner.logger.warning = lines.append
    runner.train()
    return [line for line in lines if word in line]


def test_right_labels(job, tmp_path):
    assert train(job([0, 1, 255])) == []
    assert [*(tmp_path / 'run').glob('best*')]


def test_masks_of_0_and_255(job, tmp_path):
    """An epoch has 4 batches; the validation after the second one ends the run."""
    with pytest.raises(ValueError) as info:
        train(job([0, 255], [0, 255]))
    assert str(info.value) == (
        "class 'car' never occurs in the val data, but 50.0% of the labels are 255, which is "
        f'ignored; the first such file is {tmp_path}/val/masks/0.png: masks of 0 and 255 must be '
        'converted to 0 and 1'
    )
    assert not [*(tmp_path / 'run').glob('*.pth')]


def test_masks_of_0_and_255_in_training_alone(job):
    with pytest.raises(ValueError, match=r"^class 'car' never occurs in the train data, but 50"):
        train(job([0, 255]))


@pytest.mark.parametrize('reduced', [False, True])
def test_all_ignored(job, tmp_path, reduced):
    cfg = job([0], [0, 1, 2]) if reduced else job([255])
    cfg.custom_hooks[-1].batches = 2  # the first validation follows the second batch
    cfg.train_dataloader.dataset.reduce_zero_label = reduced
    cfg.val_dataloader.dataset.reduce_zero_label = reduced
    with pytest.raises(ValueError, match=r'^all labels of the train data are ignored: 100\.0%'):
        train(cfg)
    assert not [*(tmp_path / 'run').glob('*.pth')]


def test_reduced_labels_in_one_part_alone(job):
    with pytest.raises(ValueError, match=r'val data set in .* has reduce_zero_label=True, but'):
        train(job([0, 1], val_dataloader__dataset__reduce_zero_label=True))


def test_a_class_that_never_occurs(job):
    """There is one warning per part, not one per validation."""
    lines = train(job([0], [1]))
    assert lines == [
        "1 of 2 classes: 'road' never occurs in the val data",
        "1 of 2 classes: 'car' never occurs in the train data",
    ]


def test_a_mask_of_another_size_with_any_loader(job, tmp_path):
    cfg = job([0, 1])
    for part in ('train', 'val'):
        cfg[f'{part}_dataloader'].dataset.pipeline[1].type = 'LoadAnnotations'
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / 'val' / 'masks' / '3.png')
    with pytest.raises(ValueError, match=r'val/masks/3\.png is a mask of 16 x 16 pixels, but its'):
        train(cfg)


def test_images_that_a_loader_makes_dark_and_padding_that_is_learned(job, tmp_path):
    """There is one warning for each; our loader keeps the bits that are used."""
    words = ('8 bits per channel', 'the head learns padding')
    for kind, expected in (('LoadImageFromFile', [1, 1]), ('toast_mm.LoadImageFromFile', [0, 1])):
        cfg = job([0, 1, 255])
        dark = tmp_path / 'train' / 'images' / '0.png'
        Image.new('I;16', (8, 8), 3000).save(dark)
        pipeline = cfg.train_dataloader.dataset.pipeline
        pipeline[0].type = kind
        pipeline.insert(2, dict(type='Pad', size=(8, 8), pad_val=dict(img=0, seg=0)))
        lines = train(cfg, '')
        assert [sum(word in line for line in lines) for word in words] == expected
        assert any(line.startswith(f'{dark} has more') for line in lines) == bool(expected[0])
