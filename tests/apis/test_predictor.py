"""Predictions from Python: those of the inferencers of mm, for every kind of input."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain import ImageClassificationInferencer
from mmseg.apis import MMSegInferencer, inference_model, init_model
from PIL import Image

from toast_mm.apis import Classification, Segmentation, Tasks, load
from toast_mm.apis.pictures import Preparation, list_pictures
from toast_mm.datasets.bands import picture_of

pytestmark = pytest.mark.filterwarnings('ignore:Failed to add')  # of mmseg's inferencer


@pytest.fixture(scope='module')
def classifier(birds):
    return load(birds.task_file, device='cpu')


@pytest.fixture(scope='module')
def segmentor(streets):
    return load(streets.task_file, device='cpu')


def scores(results) -> np.ndarray:
    return np.stack([result.scores for result in results])


def of_mmpretrain(birds, photos) -> list[np.ndarray]:
    inferencer = ImageClassificationInferencer(str(birds.path), str(birds.task_file), device='cpu')
    return [found['pred_scores'] for found in inferencer(photos)]


def of_mmseg(streets, photos) -> list[np.ndarray]:
    inferencer = MMSegInferencer(
        str(streets.path), str(streets.task_file), device='cpu', show_progress=False
    )
    return [inferencer(photo)['predictions'] for photo in photos]


@pytest.mark.parametrize('ours_first', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_beside_the_inferencers_of_mm(birds, streets, photos, ours_first):
    def ours():
        predictors = load(birds.task_file, device='cpu'), load(streets.task_file, device='cpu')
        return [predictor.predict(photos, progress=False) for predictor in predictors]

    DefaultScope._instance_dict.clear()
    if ours_first:
        classified, segmented = ours()
        assert DefaultScope.get_current_instance() is None
    expected_classes = of_mmpretrain(birds, photos)
    expected_labels = of_mmseg(streets, photos)
    if not ours_first:
        classified, segmented = ours()
        assert DefaultScope.get_current_instance().scope_name == 'mmseg'
    np.testing.assert_allclose(scores(classified), expected_classes, atol=1e-6)
    for result, labels in zip(segmented, expected_labels, strict=True):
        np.testing.assert_array_equal(result.labels, labels)
        assert len(np.unique(labels)) > 1
    assert len({tuple(row) for row in scores(classified)}) == 3


@pytest.mark.parametrize('kind', ['classifier', 'segmentor'])
def test_every_kind_of_input_gives_the_same(request, photos, kind):
    predictor = request.getfixturevalue(kind)
    if kind == 'segmentor':
        photos = photos[2:]
    images = [Image.open(photo) for photo in photos]
    arrays = [np.asarray(image) for image in images]
    forms = [photos, [Path(photo) for photo in photos], images, arrays]
    found = [predictor.predict(form, batch_size=2, progress=False) for form in forms]
    for results in found:
        for result, expected, array in zip(results, found[0], arrays, strict=True):
            np.testing.assert_array_equal(result.image, array)
            if kind == 'classifier':
                np.testing.assert_allclose(result.scores, expected.scores, atol=1e-6)
            else:
                np.testing.assert_array_equal(result.labels, expected.labels)
    paths = [[result.path for result in results] for results in found]
    assert paths == [photos, photos, [None] * len(photos), [None] * len(photos)]
    assert len(predictor.predict(arrays[0])) == 1


def test_two_sizes_in_turn(segmentor, photos):
    """Images of one size make a batch; the results have the order of the images."""
    wide, tall = Image.open(photos[0]), Image.open(photos[2])
    pictures = [wide, tall, wide.rotate(180)]
    together = segmentor.predict(pictures, batch_size=2, progress=False)
    by_name = Tasks({'streets': segmentor}).predict(pictures, batch_size=2, progress=False)
    for number, picture in enumerate(pictures):
        (alone,) = segmentor.predict(picture)
        for found in (together[number], by_name['streets'][number]):
            np.testing.assert_array_equal(found.image, np.asarray(picture))
            np.testing.assert_array_equal(found.labels, alone.labels)


def test_arrays_are_rgb(classifier, photos):
    array = np.asarray(Image.open(photos[0]))
    right, swapped = classifier.predict([array, array[..., ::-1]], progress=False)
    (expected,) = classifier.predict(photos[0])
    np.testing.assert_allclose(right.scores, expected.scores, atol=1e-6)
    assert np.abs(swapped.scores - expected.scores).max() > 1e-3


@pytest.mark.parametrize('mode', ['L', 'LA', 'RGBA', 'P', '1'])
def test_other_modes_are_read_as_in_training(classifier, photos, tmp_path, mode):
    image = Image.open(photos[0])
    if mode in ('LA', 'RGBA'):
        image.putalpha(Image.linear_gradient('L').resize(image.size))
    image = image.convert(mode)
    image.save(tmp_path / 'other.png')
    by_path, by_image = classifier.predict(
        [tmp_path / 'other.png', Image.open(tmp_path / 'other.png')], progress=False
    )
    np.testing.assert_array_equal(by_image.image, by_path.image)
    np.testing.assert_allclose(by_image.scores, by_path.scores, atol=1e-6)
    pipeline = classifier.cfg.test_dataloader.dataset.pipeline
    assert pipeline[0].type == 'toast_mm.LoadImageFromFile'  # which read the path
    if mode in ('L', 'RGBA'):
        (by_array,) = classifier.predict(np.asarray(image))
        np.testing.assert_array_equal(by_array.image, by_path.image)


@pytest.mark.parametrize('mode', ['CMYK', 'RGB'])
def test_jpegs_are_read_as_in_training(classifier, photos, tmp_path, mode):
    """Two decoders of JPEG differ by a few values."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    smooth = Image.open(photos[0]).resize((16, 16)).resize((64, 48), Image.Resampling.BICUBIC)
    smooth.convert(mode).save(tmp_path / 'photo.jpg', quality=95, exif=exif)
    by_path, by_image = classifier.predict(
        [tmp_path / 'photo.jpg', Image.open(tmp_path / 'photo.jpg')], progress=False
    )
    assert by_path.image.shape == by_image.image.shape == (64, 48, 3)
    difference = np.abs(by_path.image.astype(int) - by_image.image)
    assert difference.mean() < 3
    assert (
        np.abs(by_path.image.astype(int) - np.asarray(smooth.rotate(-90, expand=True))).mean() < 6
    )


def test_sixteen_bits_are_scaled_as_in_training(classifier, tmp_path):
    deep = (np.arange(40 * 30, dtype=np.uint16) * 54).reshape(40, 30)
    Image.fromarray(deep).save(tmp_path / 'deep.png')
    results = classifier.predict(
        [tmp_path / 'deep.png', Image.open(tmp_path / 'deep.png'), deep], progress=False
    )
    for result in results:
        np.testing.assert_array_equal(result.image, np.repeat((deep >> 8)[..., None], 3, axis=2))
        np.testing.assert_allclose(result.scores, results[0].scores, atol=1e-6)


def test_bands(birds, tmp_path):
    """Arrays hold all bands of a file; the picture shows those that the loader says."""
    cfg = copy.deepcopy(birds.cfg)
    cfg.test_dataloader.dataset.pipeline = [
        dict(type='toast_mm.LoadBandsFromFile', num_bands=5, bands=[3, 1, 0, 4], shown=[2, 1, 0]),
        dict(type='mmpretrain.PackInputs'),
    ]
    prepare = Preparation(cfg)
    bands = np.random.default_rng(0).random((6, 7, 5), np.float32)
    np.save(tmp_path / 'scene.npy', bands)
    by_path, by_array = prepare(tmp_path / 'scene.npy'), prepare(bands)
    for sample in (by_path, by_array):
        np.testing.assert_array_equal(
            sample.packed['inputs'].numpy(), bands[..., [3, 1, 0, 4]].transpose(2, 0, 1)
        )
        np.testing.assert_array_equal(sample.image, picture_of(bands, [0, 1, 3]))
    assert list_pictures(tmp_path, prepare.suffixes) == [str(tmp_path / 'scene.npy')]
    with pytest.raises(ValueError, match=r'shape \(6, 7, 3\), which is no image of 5 bands'):
        prepare(bands[..., :3])


def test_folders(classifier, photos, tmp_path, caplog):
    (tmp_path / 'b' / '.hidden').mkdir(parents=True)
    for name in ('b/2.PNG', 'a.png', 'b/.hidden/x.png', 'b/1.png'):
        (tmp_path / name).write_bytes(Path(photos[0]).read_bytes())
    results = classifier.predict(tmp_path, progress=False)
    names = [str(Path(result.path).relative_to(tmp_path)) for result in results]
    assert names == ['a.png', 'b/1.png', 'b/2.PNG']
    (tmp_path / 'notes.txt').touch()
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr('toast_mm.apis.pictures.print_log', lambda text, **_: said.append(text))
        classifier.predict([tmp_path, photos[1]], progress=False)
    assert len(said) == 1 and f'{tmp_path}/notes.txt' in said[0] and '.jpeg' in said[0]


def test_broken_pictures(classifier, photos, tmp_path):
    (tmp_path / 'broken.png').write_bytes(Path(photos[0]).read_bytes()[:200])
    inputs = [photos[0], tmp_path / 'broken.png', photos[1]]
    with pytest.raises(ValueError, match=r'broken\.png cannot be decoded as an image'):
        classifier.predict(inputs, progress=False)
    with pytest.MonkeyPatch.context() as patch:
        said = []
        patch.setattr('toast_mm.apis.batches.print_log', lambda text, **_: said.append(text))
        results = classifier.predict(inputs, progress=False, on_error='skip')
        inputs += [tmp_path / 'gone.png']
        assert len(classifier.predict(inputs, progress=False, on_error='skip')) == 2
    assert [result.path for result in results] == photos[:2]
    assert len(said) == 3 and 'broken.png' in said[0] and 'gone.png' in said[2]


@pytest.mark.parametrize(
    ('inputs', 'error', 'message'),
    [
        ('gone.png', FileNotFoundError, r'gone\.png: there is no such image or folder'),
        ('http://127.0.0.1:1/a.png', OSError, r'^http://127\.0\.0\.1:1/a\.png cannot be read: '),
        ([], ValueError, 'the list is empty'),
        (7, TypeError, 'int is no image'),
        ([None], TypeError, 'NoneType is no image'),
        (torch.zeros(3, 8, 8), TypeError, 'Tensor is no image'),
        (np.zeros((8, 8, 3)), ValueError, 'float64, which have no fixed range'),
        (np.zeros((3, 8, 8), np.uint8), ValueError, r'\(3, 8, 8\) is no image: it must be \(H, W'),
        (np.zeros((0, 8, 3), np.uint8), ValueError, 'is no image'),
        (Image.new('F', (4, 4)), ValueError, 'float32, which have no fixed range'),
    ],
)
def test_what_is_no_image(classifier, inputs, error, message):
    with pytest.raises(error, match=message):
        classifier.predict(inputs)


def test_wrong_arguments(classifier, photos, tmp_path):
    with pytest.raises(ValueError, match=r'folder .* holds no images, which end in \.bmp'):
        classifier.predict(tmp_path)
    with pytest.raises(ValueError, match='batch_size=0 must be a whole number of at least 1'):
        classifier.predict(photos, batch_size=0)
    with pytest.raises(ValueError, match="on_error='ignore' must be one of"):
        classifier.predict(photos, on_error='ignore')


def test_the_bar_is_not_on_standard_output(classifier, photos, capsys):
    classifier.predict(photos)
    output = capsys.readouterr()
    assert output.out == '' and '100%' in output.err
    classifier.predict(photos, progress=False)
    classifier.predict(photos[0])
    assert capsys.readouterr().err == ''


def test_results_have_the_names_of_the_classes(classifier, segmentor, photos):
    (result,) = classifier.predict(photos[0])
    assert isinstance(result, Classification)
    np.testing.assert_allclose(result.scores.sum(), 1, rtol=1e-5)
    assert result.label == classifier.classes[int(np.argmax(result.scores))]
    assert [label for label, _ in result.top(3)] == [
        classifier.classes[n] for n in np.argsort(-result.scores)
    ]
    (result,) = segmentor.predict(photos[0])
    assert isinstance(result, Segmentation)
    assert result.classes == ['sky', 'road', 'tree', 'car'] and len(result.palette) == 4
    assert result.labels.shape == result.image.shape[:2]


def test_reprs(classifier):
    assert repr(classifier).startswith('Predictor(') and '3 classes, TOASTViT (' in repr(classifier)
    html = classifier._repr_html_()
    assert '&lt;b&gt;finch&lt;/b&gt;' in html and '<b>' not in html


@pytest.mark.slow
def test_in_the_interfaces_of_mm(streets, photos):
    model = init_model(str(streets.path), str(streets.task_file), device='cpu')
    expected = inference_model(model, photos[0]).pred_sem_seg.data[0].numpy()
    (result,) = load(streets.path, streets.task_file, 'cpu').predict(photos[0])
    np.testing.assert_array_equal(result.labels, expected)
