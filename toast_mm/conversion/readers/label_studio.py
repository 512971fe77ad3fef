"""Label Studio: the JSON of its export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from toast_mm.conversion.items import Annotations, ConversionError, Item, relative_name
from toast_mm.conversion.readers.json_files import read_json, reading
from toast_mm.conversion.shapes import Bitmap, Ellipse, Polygon, Region, Shape, turned

KINDS = {
    'polygonlabels': 'polygon',
    'rectanglelabels': 'rectangle',
    'ellipselabels': 'ellipse',
    'brushlabels': 'brush',
}


def read_label_studio(path: Path, images: Path, key: str | None = None) -> Annotations:
    """Read choices as classes of images, and polygons, rectangles, ellipses and brushes.

    The first annotation of a task that was not cancelled is taken.

    Args:
        path: The JSON file.
        images: Folder of the images. An image is where its URL says, below this folder, or has the
            same name there; uploads are found without the code that Label Studio puts before names.
        key: Key of the image in ``data``. None takes the only one that looks like a path.

    Raises:
        ConversionError: The file is of another form.
        OSError: There is no such file.
    """
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise ConversionError(f'{path} is no list of tasks: export "JSON" from Label Studio')
    found = Annotations()
    for task in tasks:
        where = f'{path}, task {task.get("id") if isinstance(task, dict) else task}'
        with reading(where):
            file = _image(str(task['data'][key or _only_key(task['data'])]), images)
            annotations = [a for a in task['annotations'] if not a.get('was_cancelled')]
            item = Item(file, relative_name(file, images), where)
            if len(annotations) > 1:
                found.skip(where, f'{len(annotations) - 1} annotations besides the first')
            results = list(annotations[0]['result']) if annotations else []
        for result in results:
            try:
                with reading(where):
                    _take(result, item)
            except ConversionError as error:
                found.skip(where, str(error).removeprefix(f'{where}: '))
        found.items.append(item)
    return found


def _only_key(data: Mapping[str, Any]) -> str:
    paths = [key for key, value in data.items() if isinstance(value, str) and '/' in value]
    if len(paths) != 1:
        raise ConversionError(f'--key must say which of {", ".join(data)} is the image')
    return paths[0]


def _image(url: str, images: Path) -> Path:
    """The file that a URL of Label Studio names."""
    parts = urlsplit(url)
    local = parse_qs(parts.query).get('d')  # /data/local-files/?d=relative/path
    stated = Path(local[0] if local else unquote(parts.path))
    names = [stated.name, stated.name.partition('-')[2] or stated.name]  # an upload is CODE-name
    tails: list[Path | str] = [
        Path(*stated.parts[start:]) for start in range(bool(stated.root), len(stated.parts))
    ]
    for candidate in [*tails, *names]:
        if (images / candidate).is_file():
            return images / candidate
    return images / stated.name


def _take(result: Mapping[str, Any], item: Item) -> None:
    """Add one result to an item."""
    kind, value = result['type'], result.get('value', {})
    if kind == 'choices':
        chosen = value['choices']
        if len(chosen) != 1 or item.label not in (None, chosen[0]):
            raise ConversionError(f'its choices {", ".join(chosen)}: an image has one class')
        item.label = chosen[0]
        return
    if kind not in KINDS:
        raise ConversionError(f'{kind} is no annotation of an area')
    width, height = int(result['original_width']), int(result['original_height'])
    if item.size not in (None, (width, height)):
        raise ConversionError(
            f'its parts are for images of other sizes: {item.size}, {width, height}'
        )
    item.size = width, height
    if result.get('image_rotation'):
        raise ConversionError(f'it was annotated on an image turned by {result["image_rotation"]}')
    shape = _shape(KINDS[kind], value, width, height)
    item.layers += [Region(label, shape) for label in value[kind]]


def _shape(kind: str, value: Mapping[str, Any], width: int, height: int) -> Shape:
    """A shape in pixels; Label Studio has percent of the sides of the image."""
    across, along = width / 100, height / 100
    if kind == 'polygon':
        return Polygon([[(x * across, y * along) for x, y in value['points']]])
    if kind == 'brush':
        if value.get('format', 'rle') != 'rle':
            raise ConversionError(f'its format {value["format"]!r} is not "rle"')
        return Bitmap(brush(value['rle'], height, width))
    x, y, degrees = value['x'] * across, value['y'] * along, float(value.get('rotation', 0))
    if kind == 'ellipse':
        return Ellipse(x, y, value['radiusX'] * across, value['radiusY'] * along, degrees)
    right, bottom = x + value['width'] * across, y + value['height'] * along
    corners = [(x, y), (right, y), (right, bottom), (x, bottom)]
    return Polygon([turned(corners, corners[0], degrees)])  # about the upper left corner


def brush(code: list[int], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels of a brush, ``(H, W)``.

    Label Studio packs RGBA values bit by bit: their number (32 bits), the bits of a value less one
    (5), four lengths of counters less one (4 bits each), then runs. A run is a bit for "the same
    value", a choice of counter (2 bits), its length less one, and one value or all of them.

    Raises:
        ConversionError: The code is cut off, or is for another size.
    """
    bits = np.unpackbits(np.asarray(code, np.uint8)).tolist()
    at = 0

    def take(number: int) -> int:
        nonlocal at
        if at + number > len(bits):
            raise ConversionError('its brush is cut off')
        value = 0
        for bit in bits[at : at + number]:
            value = 2 * value + bit
        at += number
        return value

    number, word = take(32), take(5) + 1
    if number != 4 * height * width:
        raise ConversionError(
            f'its brush has {number} values, but {width} x {height} pixels have '
            f'{4 * height * width}'
        )
    lengths = [take(4) + 1 for _ in range(4)]
    values = np.zeros(number, np.int64)
    done = 0
    while done < number:
        same = take(1)
        end = done + take(lengths[take(2)]) + 1
        if end > number:
            raise ConversionError('its brush has more values than it says')
        values[done:end] = take(word) if same else [take(word) for _ in range(end - done)]
        done = end
    return values.reshape(height, width, 4)[..., 3] > 0
