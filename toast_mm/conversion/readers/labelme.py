"""labelme: a JSON file per image."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from toast_mm.conversion.items import Annotations, ConversionError, Item, relative_name
from toast_mm.conversion.readers.json_files import read_json, reading
from toast_mm.conversion.shapes import Bitmap, Ellipse, Polygon, Region, Shape, rectangle


def read_labelme(folder: Path, images: Path | None = None) -> Annotations:
    """Read polygons, rectangles, circles and masks, and flags of images as classes.

    Args:
        folder: Folder with JSON files, also in folders below it.
        images: Folder of the images, if they are not where ``imagePath`` says.

    Raises:
        ConversionError: A file is of another form, or there is none.
        OSError: A file cannot be read.
    """
    found = Annotations()
    paths = sorted(folder.rglob('*.json'))
    if not paths:
        raise ConversionError(f'{folder} has no JSON file')
    for path in paths:
        data = read_json(path)
        if not isinstance(data, dict) or 'shapes' not in data:
            found.skip(path, 'it is no file of labelme: it has no "shapes"')
            continue
        with reading(path):
            stated = Path(str(data['imagePath']).replace('\\', '/'))
            file = path.parent / stated
            if images is not None:
                file = images / path.parent.relative_to(folder) / stated.name
            size = (int(data['imageWidth']), int(data['imageHeight']))
            item = Item(file, relative_name(path, folder), str(path), size=size)
            flags = [name for name, is_set in (data.get('flags') or {}).items() if is_set]
            if len(flags) == 1:
                item.label = flags[0]
            elif flags:
                found.skip(path, f'its flags {", ".join(flags)}: an image has one class')
            shapes = list(data['shapes'])
        for number, shape in enumerate(shapes):
            where = f'{path}, shape {number}'
            try:
                with reading(where):
                    item.layers.append(Region(str(shape['label']), _shape(shape)))
            except ConversionError as error:
                found.skip(where, str(error).removeprefix(f'{where}: '))
        found.items.append(item)
    return found


def _shape(shape: dict[str, Any]) -> Shape:
    kind = shape.get('shape_type') or 'polygon'  # old files have polygons only
    points = [(float(x), float(y)) for x, y in shape['points']]
    if kind == 'polygon':
        return Polygon([points])
    if kind == 'rectangle':
        (left, top), (right, bottom) = points
        return rectangle(left, top, right, bottom)
    if kind == 'circle':
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return Ellipse(x, y, radius, radius)
    if kind == 'mask':
        content = base64.b64decode(shape['mask'])
        try:
            with Image.open(io.BytesIO(content)) as image:
                pixels = np.asarray(image.convert('L')) > 0
        except OSError as error:
            raise ConversionError(f'its mask is no image: {error}') from error
        (left, top), _ = points
        return Bitmap(pixels, round(left), round(top))
    raise ConversionError(f'a {kind} has no area')
