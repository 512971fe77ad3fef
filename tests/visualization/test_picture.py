"""The picture: a line per image, block and head, a column per kind of map."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from toast_mm.files import WriteError
from toast_mm.visualization import (
    AttentionMaps,
    Row,
    View,
    as_image,
    draw_picture,
    save_picture,
)

PALETTE = [[0, 0, 0], [230, 25, 75], [0, 130, 200]]
CLASSES = ['ground', 'left', 'right']
GRAY = np.full((32, 32, 3), 128, np.uint8)


def even(value, heads=1):
    return None if value is None else torch.full((1, heads, 4, 4), value)


def steered(first=0.1, second=0.1, heads=1) -> AttentionMaps:
    mask = torch.full((1, 4, 4), 0.5)
    return AttentionMaps(mask, even(first, heads), even(second, heads), 'attention')


def plain(value=0.1, heads=1) -> AttentionMaps:
    return AttentionMaps(None, even(value, heads), None, 'attention')


def row(maps=None, labels=None, truth=None, method='TOAST') -> Row:
    maps = {3: maps or steered()} if not isinstance(maps, dict) else maps
    return Row([View(method, GRAY, maps, labels=labels)], truth=truth)


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def lines(figure) -> list[str]:
    """Labels at the left."""
    return [axes.get_ylabel() for axes in figure.axes if axes.get_subplotspec().colspan.start == 0]


def panel(figure, line, column):
    """What is drawn in a panel, from below; and the caption."""
    width = figure.axes[0].get_gridspec().ncols
    axes = figure.axes[line * width + column]
    return axes.images, axes.get_xlabel()


def drawn(figure, line, column) -> np.ndarray:
    """The map over the gray image, and the range of its colours."""
    (_, above), _ = panel(figure, line, column)
    return np.asarray(above.get_array()), above.get_clim()


def test_size(tmp_path):
    def size(rows, *arguments):
        path = str(tmp_path / 'p.png')
        save_picture(draw_picture(rows, *arguments), path)
        with Image.open(path) as picture:
            return picture.size

    one, three = size([row()]), size([row()] * 3)
    labels = np.zeros((32, 32), int)
    segmented = size([row(labels=labels, truth=labels)], CLASSES, PALETTE)
    assert three[1] > 2 * one[1] and three[0] == one[0]
    assert segmented[0] == pytest.approx(one[0] * 6 / 4, abs=2)
    assert [path.name for path in tmp_path.iterdir()] == ['p.png']


def test_lines_that_nobody_could_read():
    """The number of heads and blocks counts."""
    heads = row(steered(heads=34))
    sentence = 'a picture of 102 lines cannot be read, only up to 100: draw fewer images, blocks'
    for rows in ([heads] * 3, [row({n: steered(heads=34) for n in range(3)})]):
        with pytest.raises(ValueError, match=sentence):
            draw_picture(rows)


def test_labels_have_the_colours_of_their_classes():
    truth = np.zeros((32, 32), int)
    truth[:, :8], truth[:, 8:16] = 1, 255
    figure = draw_picture([row(labels=np.full((32, 32), 2), truth=truth)], CLASSES, PALETTE)
    picture = as_image(figure).astype(int)

    def pixels(colour, columns):
        return (picture[:, columns] == colour).all(-1).sum()

    width = picture.shape[1] // 6  # of one column; there are three before the middle
    whole = pixels(PALETTE[2], slice(2 * width, 3 * width))
    assert whole > 0.5 * width**2
    assert pixels(PALETTE[1], slice(width, 2 * width)) == pytest.approx(whole / 4, rel=0.1)
    assert pixels(PALETTE[0], slice(width, 2 * width)) > whole / 2 - width
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ['ground', 'left']  # of the truth


def test_without_a_truth_the_legend_is_of_the_predictions():
    (legend,) = draw_picture([row(labels=np.full((4, 4), 2))], CLASSES, PALETTE).legends
    assert [text.get_text() for text in legend.get_texts()] == ['right']


def test_both_passes_share_one_scale():
    figure = draw_picture([row(steered(0.1, 0.4))], difference=True)
    assert titles(figure) == [
        *('image', 'selection mask', 'attention, first pass', 'attention, second pass'),
        'difference',
    ]
    for column, value in ((2, 0.1), (3, 0.4)):
        weights, colours = drawn(figure, 0, column)
        assert weights == pytest.approx(np.full((4, 4), value)) and colours == pytest.approx(
            (0, 0.4)
        )
    weights, colours = drawn(figure, 0, 4)
    assert weights == pytest.approx(np.full((4, 4), 0.3)) and colours == pytest.approx((-0.3, 0.3))
    picture = as_image(figure)
    first, second, more = np.array_split(picture, 5, axis=1)[2:]
    middle = slice(picture.shape[0] // 3, picture.shape[0] // 2), slice(60, 120)
    assert second[middle].mean() > first[middle].mean() + 30
    assert more[middle][..., 0].mean() > more[middle][..., 2].mean() + 50  # red


def test_no_difference_is_white():
    weights, (lowest, highest) = drawn(draw_picture([row()], difference=True), 0, 4)
    assert not weights.any()
    assert colormaps['bwr'](-lowest / (highest - lowest))[:3] == pytest.approx((1, 1, 1), abs=0.01)


def test_a_line_for_every_block_and_head():
    maps = {0: steered(heads=2), 3: steered(0.2, heads=2)}
    rows = [row(maps), row(maps)]
    rows[0].caption = 'bird'
    rows[0].views[0].caption = 'predicted cat'
    figure = draw_picture(rows)
    labels = [f'block {block}\nhead {head}' for block in (0, 3) for head in (0, 1)]
    assert lines(figure) == labels * 2
    assert [panel(figure, 0, column)[1] for column in range(4)] == ['bird', 'predicted cat', '', '']
    for line in range(8):
        once = [len(panel(figure, line, column)[0]) for column in (0, 1)]
        assert once == ([1, 2] if line % 4 == 0 else [0, 0])  # the image, and the mask over it
        assert drawn(figure, line, 2)[0] == pytest.approx(0.2 if line % 4 > 1 else 0.1)
        if line:
            assert not any(panel(figure, line, column)[1] for column in range(4))


def test_stages_and_passes_that_do_not_run_a_block():
    mask = torch.ones(1, 2, 2)
    maps = {
        1: AttentionMaps(mask, even(2.0), None, 'energy'),
        2: AttentionMaps(mask, None, even(1.0), 'energy'),
    }
    figure = draw_picture([row(maps)], difference=True)
    assert lines(figure) == ['stage 1', 'stage 2']
    assert titles(figure)[2:4] == ['energy, first pass', 'energy, second pass']
    missing = [[not panel(figure, line, column)[0] for column in (2, 3, 4)] for line in (0, 1)]
    assert missing == [[False, True, True], [True, False, True]]


def test_several_models_side_by_side():
    views = [
        View('linear probe', GRAY, {5: plain(0.3, heads=3)}, 'predicted a'),
        View('TOAST', GRAY, {5: steered(heads=2)}, 'predicted b'),
        View('LoRA', GRAY, {5: plain(heads=2)}),
        View('LoRA', GRAY, {5: plain(heads=2)}),
    ]
    figure = draw_picture([Row(views, 'truth')])
    assert titles(figure) == [
        *('image', 'linear probe\nattention', 'TOAST\nselection mask'),
        *('TOAST\nattention, first pass', 'TOAST\nattention, second pass'),
        *('LoRA (1)\nattention', 'LoRA (2)\nattention'),
    ]
    assert [panel(figure, 0, column)[1] for column in (0, 1, 2)] == [
        *('truth', 'predicted a', 'predicted b')
    ]
    assert lines(figure) == ['head 0', 'head 1', 'head 2']
    drawn_in_last = [bool(panel(figure, 2, column)[0]) for column in range(7)]
    assert drawn_in_last == [False, True, *[False] * 5]  # others have two heads


def test_maps_that_cover_padding_are_cut_off():
    view = View('TOAST', GRAY, {3: steered()}, covered=(1.25, 2.0))
    figure = draw_picture([Row([view])])
    (_, above), _ = panel(figure, 0, 2)
    assert above.get_extent() == [-0.5, 63.5, 39.5, -0.5]
    assert (above.axes.get_xlim(), above.axes.get_ylim()) == ((-0.5, 31.5), (31.5, -0.5))


def test_a_picture_that_nobody_can_read():
    with pytest.raises(ValueError, match='a picture of 102 lines cannot be read, only up to 100'):
        draw_picture([row({n: steered(heads=3) for n in range(17)})] * 2)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(WriteError, match=r'nowhere/p\.png cannot be written'):
        save_picture(draw_picture([row()]), str(tmp_path / 'nowhere' / 'p.png'))


@pytest.mark.parametrize('shape', [(32, 32), (24, 72), (64, 40), (90, 30)])
def test_lines_have_no_gaps(shape):
    """Of images of any shape; the tallest are drawn smaller."""
    image = np.full((*shape, 3), 128, np.uint8)
    picture = as_image(draw_picture([Row([View('TOAST', image, {3: steered()})])] * 3))
    blank = (picture == 255).all(axis=(1, 2))
    runs = ''.join('.' if empty else '#' for empty in blank).split('#')
    assert max(map(len, runs)) < 30  # of 192 pixels that a panel is wide
