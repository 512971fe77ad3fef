import pytest
from mmengine.dataset import BaseDataset, ClassBalancedDataset, ConcatDataset, RepeatDataset
from mmpretrain.datasets import CustomDataset
from mmseg.datasets import ADE20KDataset
from PIL import Image
from torch.utils.data import Subset

from toast_mm.engine.class_names import difference, from_metainfo, meaning_of_labels

NAMES = dict(classes=['blue', 'green', 'red'])


def compare(one: dict, other: dict, **settings) -> str | None:
    return difference(one, other, 'the test data set', 'the checkpoint a.pth', **settings)


@pytest.mark.parametrize(
    'classes, sentence',
    [
        (
            ['blue', 'red', 'zgreen'],
            "class 1 is 'red' in the test data set, but 'green' in the checkpoint a.pth (2 of 3 "
            'differ).',
        ),
        (
            ['blue', 'red', 'green'],
            "class 1 is 'red' in the test data set, but 'green' in the checkpoint a.pth (2 of 3 "
            'differ). The names are the same, but in another order.',
        ),
        (
            ['blue', 'red'],
            'the test data set has 2 classes, but the checkpoint a.pth has 3: it lacks '
            "'green', so that a number does not mean the same class in both.",
        ),
        (
            ['blue', 'gray', 'green', 'red'],
            'the test data set has 4 classes, but the checkpoint a.pth has 3: it also has '
            "'gray', so that a number does not mean the same class in both.",
        ),
    ],
)
def test_other_classes(classes, sentence):
    assert compare(dict(classes=classes), NAMES) == sentence
    assert compare(dict(classes=classes), NAMES, compare=['reduce_zero_label']) is None


def test_nothing_is_said_of_what_is_unknown():
    assert compare(NAMES, {}) is compare({}, NAMES) is compare(NAMES, NAMES) is None
    for metainfo in (None, {}, dict(classes=None), dict(classes=())):
        assert from_metainfo(metainfo) == {}


def test_reduced_labels():
    one, other = dict(NAMES, reduce_zero_label=False), dict(NAMES, reduce_zero_label=True)
    assert 'has reduce_zero_label=False, but the checkpoint a.pth has True' in compare(one, other)


class Colours(BaseDataset):
    METAINFO = dict(classes=('blue', 'green', 'red'))

    def load_data_list(self) -> list[dict]:
        return [dict(img_path='a.jpg')] * 2

    def get_cat_ids(self, idx: int) -> list[int]:
        return [0]


@pytest.mark.parametrize(
    'wrap',
    [
        lambda colours: colours,
        lambda colours: ConcatDataset([colours, Colours()]),
        lambda colours: RepeatDataset(colours, 2),
        lambda colours: ClassBalancedDataset(colours, 0.5),
        lambda colours: Subset(RepeatDataset(colours, 2), [0]),
    ],
)
def test_wrappers(wrap):
    assert meaning_of_labels(wrap(Colours())) == NAMES


def test_mmseg_says_whether_labels_are_reduced(tmp_path):
    (meaning,) = [meaning_of_labels(ADE20KDataset(lazy_init=True, reduce_zero_label=True))]
    assert meaning['reduce_zero_label'] is True and len(meaning['classes']) == 150


def test_folders(tmp_path):
    """The order of the folders numbers the classes, whatever names are given."""
    for folder in ('n2', 'n10'):
        (tmp_path / folder).mkdir()
        Image.new('RGB', (4, 4)).save(tmp_path / folder / 'a.png')
    assert meaning_of_labels(CustomDataset(str(tmp_path))) == dict(classes=['n10', 'n2'])
    named = CustomDataset(str(tmp_path), metainfo=dict(classes=('cat', 'dog')))
    meaning = meaning_of_labels(named)
    assert meaning == dict(classes=['cat', 'dog'], class_folders=['n10', 'n2'])
    other = dict(classes=['cat', 'dog'], class_folders=['n1', 'n2'])
    assert compare(meaning, other).startswith("the folder of class 0 is 'n10' in the test data set")
