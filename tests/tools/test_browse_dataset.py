"""tools/visualization/browse_dataset.py: colours, masks, augmentation and bands of the pictures."""

import numpy as np
import pytest
from PIL import Image

CLASSES, PALETTE = ('sky', 'road'), [[0, 0, 200], [90, 90, 0]]


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert('RGB')).astype(int)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_original_class(tool, classifier_job, tmp_path, capsys):
    """A red image stays red: the loaded BGR is converted as the model does."""
    for number in range(3):
        (tmp_path / 'red' / 'birds').mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (20, 30), (250, 10, 60)).save(tmp_path / f'red/birds/{number}.png')
    job = tmp_path / 'job.py'
    job.write_text(
        f"_base_ = '{classifier_job}'\ntrain_dataloader = dict(dataset=dict(data_root='red'))"
    )
    tool('visualization/browse_dataset', job, '--original', '--indices', 2)
    assert 'work_dirs/job/browse_train shows 2 of the train set, of 3' in capsys.readouterr().out
    picture = pixels('work_dirs/job/browse_train/000002.png')
    assert picture.shape == (384, 256, 3)
    np.testing.assert_allclose(picture[-100:].mean((0, 1)), (250, 10, 60), atol=1)


def test_augmentation_is_that_of_the_seed(tool, classifier_job):
    """The pipeline has SeedAugmentation, which wants the draw of a sample."""
    for folder, seed in (('a', 0), ('b', 0), ('c', 1)):
        options = ('--indices', 3, 1, '--seed', seed, '--out-dir', folder)
        tool('visualization/browse_dataset', classifier_job, *options)
    for name in ('000001.png', '000003.png'):
        assert (pixels(f'a/{name}') == pixels(f'b/{name}')).all()
        assert (pixels(f'a/{name}') != pixels(f'c/{name}')).any()


@pytest.fixture
def masks(tmp_path):
    """A job with one gray image, whose lower half is road and whose last column is ignored."""
    mask = np.zeros((40, 60), np.uint8)
    mask[20:], mask[:, -1] = 1, 255
    for folder, image in (
        ('images', Image.new('RGB', (60, 40), (100, 100, 100))),
        ('masks', Image.fromarray(mask)),
    ):
        (tmp_path / folder).mkdir()
        image.save(tmp_path / folder / 'a.png')
    path = tmp_path / 'masks.py'
    path.write_text(f"""
default_scope = 'mmseg'
model = dict(data_preprocessor=dict(type='SegDataPreProcessor', bgr_to_rgb=True))
val_dataloader = dict(
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='RepeatDataset',
        times=2,
        dataset=dict(
            type='BaseSegDataset',
            metainfo=dict(classes={CLASSES}, palette={PALETTE}),
            data_prefix=dict(img_path='images', seg_map_path='masks'),
            img_suffix='.png',
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations'),
                dict(type='Resize', scale=(30, 20)),
                dict(type='PackSegInputs'),
            ],
        ),
    ),
)
""")
    return path


def test_masks_below_a_wrapper(tool, masks, capsys):
    tool('visualization/browse_dataset', masks, '--split', 'val', '--original', '--out-dir', 'o')
    assert 'o shows 0, 1 of the val set, of 2' in capsys.readouterr().out
    picture = pixels('o/000001.png')
    assert picture.shape == (40, 60, 3)
    for row, colour in zip((0, -1), PALETTE, strict=True):
        expected = 0.4 * 100 + 0.6 * np.array(colour)
        np.testing.assert_allclose(picture[row, 0], expected, atol=2)
    tool('visualization/browse_dataset', masks, '--phase', 'val', '--out-dir', 'resized')
    assert pixels('resized/000000.png').shape == (20, 30, 3)


def test_bands(tool, classifier_job, tmp_path):
    """Of five bands the last is shown as green: its right half is bright."""
    bands = np.zeros((32, 32, 5), np.uint16)
    bands[:, 16:, 4] = 900
    (tmp_path / 'fields' / 'wheat').mkdir(parents=True)
    np.save(tmp_path / 'fields' / 'wheat' / '0.npy', bands)
    job = tmp_path / 'job.py'
    load = dict(type='toast_mm.LoadBandsFromFile', num_bands=5, shown=(0, 4, 1))
    job.write_text(
        f"_base_ = '{classifier_job}'\n"
        f"train_dataloader = dict(dataset=dict(data_root='fields', extensions=('.npy',), "
        f"pipeline=[{load}, dict(type='PackInputs')]))"
    )
    tool('visualization/browse_dataset', job, '--out-dir', 'o')
    picture = pixels('o/000000.png')
    assert picture[200, 30].tolist() == [0, 0, 0] and picture[200, 220].tolist() == [0, 255, 0]


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ('nowhere.py', 'config file nowhere.py does not exist'),
        ('masks.py', '--split train: the config has no train_dataloader'),
        ('masks.py --split val --indices 2', r'--indices 2: the val set has 2 samples, 0\.\.1'),
        ('masks.py --split val --out-dir there', r'there/000001\.png exists already: choose'),
    ],
)
def test_mistakes(tool, masks, tmp_path, arguments, sentence):
    (tmp_path / 'there').mkdir()
    (tmp_path / 'there' / '000001.png').touch()
    with pytest.raises(SystemExit, match=sentence):
        tool('visualization/browse_dataset', *arguments.split())
    assert [path.name for path in (tmp_path / 'there').iterdir()] == ['000001.png']


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ('job.py --samples 0', '--samples 0 must be at least 1'),
        ('job.py --seed -1', '--seed -1 must be at least 0'),
    ],
)
def test_arguments(tool, capsys, arguments, sentence):
    with pytest.raises(SystemExit) as exit_:
        tool('visualization/browse_dataset', *arguments.split())
    assert exit_.value.code == 2
    assert sentence in capsys.readouterr().err
