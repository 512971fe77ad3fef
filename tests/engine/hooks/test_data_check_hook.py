from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.registry import MODEL_WRAPPERS
from mmengine.structures import PixelData
from mmpretrain.models import LinearClsHead
from mmpretrain.structures import DataSample
from mmseg.models.decode_heads import FCNHead
from mmseg.structures import SegDataSample
from torch import nn

from toast_mm.engine import DataCheckHook, Runner


@MODEL_WRAPPERS.register_module(force=True)
class CheckedWrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class ToyTTA(BaseTTAModel):
    def merge_preds(self, data_samples_list: list) -> list:
        return data_samples_list


class Model(BaseModel):
    """A model of heads only."""

    def __init__(self, **heads: nn.Module) -> None:
        super().__init__()
        for name, head in heads.items():
            self.add_module(name, head)

    def forward(self, *args, **kwargs) -> None:
        pass


class Images(BaseDataset):
    def __init__(self, size: int = 1, classes: tuple | None = None) -> None:
        self.size = size
        super().__init__(
            ann_file='lists/a.txt',
            data_prefix=dict(img_path='images'),
            metainfo=dict(classes=classes) if classes else None,
            serialize_data=False,
        )

    def load_data_list(self) -> list[dict]:
        return [dict(img_path='a.jpg')] * self.size


def segmentor(num_classes: int = 3, **settings) -> nn.Module:
    head = FCNHead(
        num_convs=0, kernel_size=1, concat_input=False, in_channels=2, channels=2,
        num_classes=num_classes, **settings
    )  # fmt: skip
    return Model(decode_head=head)


def classifier(num_classes: int = 3) -> nn.Module:
    return Model(head=LinearClsHead(num_classes, in_channels=2))


def mask(*labels: int, file: str = 'mask.png') -> SegDataSample:
    sample = SegDataSample(metainfo=dict(img_path='a.jpg', seg_map_path=file))
    sample.gt_sem_seg = PixelData(data=torch.tensor([[labels]]))
    return sample


def image(*labels: int) -> DataSample:
    return DataSample(metainfo=dict(img_path='folder/a.jpg')).set_gt_label(torch.tensor(labels))


def check_batch(model: nn.Module, *samples, part: str = 'train') -> None:
    batch = dict(inputs=[], data_samples=list(samples))
    runner = SimpleNamespace(model=model)
    getattr(DataCheckHook(), f'before_{part}_iter')(runner, batch_idx=0, data_batch=batch)


def check_dataset(model: nn.Module, part: str, dataset) -> None:
    runner = SimpleNamespace(model=model)
    for name in ('train', 'val', 'test'):
        loader = SimpleNamespace(dataset=dataset if name == part else Images())
        setattr(runner, f'{name}_dataloader', loader)
    getattr(DataCheckHook(), f'before_{part}')(runner)


def parts(test):
    return pytest.mark.parametrize('part', ['train', 'val', 'test'])(test)


class TestDataSets:
    @parts
    @pytest.mark.parametrize(('build', 'name'), [(segmentor, 'decode_head'), (classifier, 'head')])
    def test_other_number_of_classes(self, part, build, name):
        check_dataset(build(3), part, Images(classes=('a', 'b', 'c')))
        for wrapped in (build(3), CheckedWrapper(build(3)), ToyTTA(build(3))):
            with pytest.raises(ValueError) as info:
                check_dataset(wrapped, part, Images(classes=('a', 'b')))
            assert str(info.value) == (
                f'the {part} data set Images has 2 classes, but model.{name}.num_classes is 3'
            )

    @parts
    def test_nothing_to_compare(self, part):
        check_dataset(segmentor(), part, Images())  # no classes
        check_dataset(segmentor(), part, [1])  # no metainfo
        check_dataset(Model(), part, Images(classes=('a',)))  # no head


class TestLabels:
    @parts
    def test_masks_within_the_classes(self, part):
        check_batch(segmentor(3), mask(0, 1, 2, 255), mask(0), part=part)

    @parts
    def test_mask_outside_the_classes(self, part):
        with pytest.raises(ValueError) as info:
            check_batch(segmentor(3), mask(0), mask(0, 5, 3, 255, 3, file='ade/b.png'), part=part)
        assert str(info.value) == (
            'ade/b.png: labels [3, 5] are outside the classes of the head, 0..2 or 255 (ignored)'
        )

    def test_negative_label(self):
        with pytest.raises(ValueError, match=r'^mask\.png: labels \[-1\] are outside'):
            check_batch(segmentor(3), mask(-1))

    def test_another_ignore_index(self):
        check_batch(segmentor(3, ignore_index=3), mask(2, 3))
        with pytest.raises(ValueError, match=r'labels \[255\] .*, 0\.\.2 or 3 \(ignored\)$'):
            check_batch(segmentor(3, ignore_index=3), mask(2, 3, 255))

    @parts
    def test_image_outside_the_classes(self, part):
        check_batch(classifier(3), image(0), image(2), image(0, 1), part=part)
        with pytest.raises(ValueError) as info:
            check_batch(classifier(3), image(0), image(1, 3), part=part)
        assert str(info.value) == (
            'folder/a.jpg: labels [3] are outside the classes of the head, 0..2'
        )

    @pytest.mark.parametrize('part', ['val', 'test'])
    @pytest.mark.parametrize('wrap', [ToyTTA, lambda model: CheckedWrapper(ToyTTA(model))])
    def test_views_of_test_time_augmentation(self, part, wrap):
        check_batch(wrap(segmentor(3)), [mask(0), mask(1)], [mask(2), mask(255)], part=part)
        with pytest.raises(ValueError, match=r'^b\.png: labels \[7\]'):
            views = [mask(2), mask(7, file='b.png')]
            check_batch(wrap(segmentor(3)), [mask(0), mask(1)], views, part=part)

    def test_nothing_to_check(self):
        check_batch(segmentor(3), SegDataSample(), DataSample())  # no truth
        check_batch(Model(), mask(9))  # no head
        for batch in (dict(inputs=[]), [torch.zeros(1), torch.ones(1)], None):
            DataCheckHook().before_train_iter(SimpleNamespace(model=segmentor()), 0, batch)


def test_runs_before_other_hooks(toy_config, tmp_path):
    """In a run, the check comes before code that would fail."""
    runner = Runner.from_cfg(toy_config(tmp_path))
    hooks = [type(hook).__name__ for hook in runner.hooks]
    assert hooks.index('DataCheckHook') < hooks.index('IterTimerHook')
    runner.model.head.num_classes = 3
    with pytest.raises(
        ValueError, match=r'^the train data set ToyDataset has 2 classes, but model'
    ):
        runner.train()
