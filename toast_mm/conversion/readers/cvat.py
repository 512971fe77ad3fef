"""CVAT: an XML file in the format "CVAT for images 1.1"."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from toast_mm.conversion.classes import hex_colour
from toast_mm.conversion.items import Annotations, ConversionError, Item, relative_name
from toast_mm.conversion.readers.json_files import reading
from toast_mm.conversion.shapes import (
    Bitmap,
    Ellipse,
    Polygon,
    Region,
    Shape,
    from_runs,
    rectangle,
    turned,
)


def read_cvat(path: Path, images: Path) -> Annotations:
    """Read polygons, boxes, ellipses and masks, and tags as classes of images.

    Shapes of a higher ``z_order`` are later ones.

    Args:
        path: The XML file.
        images: Folder that the names of images are relative to.

    Raises:
        ConversionError: The file is of another form.
        OSError: There is no such file.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        raise ConversionError(f'{path} is no XML: {error}') from error
    found = Annotations()
    for label in root.iterfind('./meta//labels/label'):
        name = (label.findtext('name') or '').strip()
        found.classes.append(name)
        if colour := hex_colour(label.findtext('color')):
            found.colours[name] = colour
    found.classes = list(dict.fromkeys(found.classes))
    records = root.findall('image')
    if not records:
        tracks = root.findall('track')
        advice = ' but tracks of a video: export it as "CVAT for images 1.1"' if tracks else ''
        raise ConversionError(f'{path} has no images{advice}')
    for record in records:
        where = f'{path}, image {record.get("name")}'
        with reading(where):
            file = images / record.attrib['name']
            size = (int(record.attrib['width']), int(record.attrib['height']))
            item = Item(file, relative_name(file, images), where, size=size)
            tags = [tag.attrib['label'] for tag in record.iterfind('tag')]
            if len(tags) == 1:
                item.label = tags[0]
            elif tags:
                found.skip(where, f'its tags {", ".join(tags)}: an image has one class')
            shapes = [shape for shape in record if shape.tag != 'tag']
            shapes.sort(key=lambda shape: int(shape.get('z_order', 0)))
        for shape in shapes:
            try:
                with reading(where):
                    region = Region(shape.attrib['label'], _shape(shape.tag, shape.attrib))
                    item.layers.append(region)
            except ConversionError as error:
                found.skip(where, str(error).removeprefix(f'{where}: '))
        found.items.append(item)
    return found


def _shape(kind: str, values: Mapping[str, str]) -> Shape:
    if kind == 'polygon':
        points = [tuple(map(float, point.split(','))) for point in values['points'].split(';')]
        return Polygon([[(x, y) for x, y in points]])
    degrees = float(values.get('rotation', 0))
    if kind == 'box':
        left, top, right, bottom = (float(values[side]) for side in ('xtl', 'ytl', 'xbr', 'ybr'))
        box = rectangle(left, top, right, bottom)
        centre = ((left + right) / 2, (top + bottom) / 2)
        return Polygon([turned(box.rings[0], centre, degrees)]) if degrees else box
    if kind == 'ellipse':
        x, y, rx, ry = (float(values[key]) for key in ('cx', 'cy', 'rx', 'ry'))
        return Ellipse(x, y, rx, ry, degrees)
    if kind == 'mask':
        left, top, width, height = (
            int(float(values[key])) for key in ('left', 'top', 'width', 'height')
        )
        runs = [int(run) for run in values['rle'].split(',')]
        return Bitmap(from_runs(runs, height, width), left, top)
    raise ConversionError(f'a {kind} has no area')
