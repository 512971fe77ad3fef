"""COCO: one JSON file with ``images``, ``annotations`` and ``categories``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from toast_mm.conversion.items import Annotations, ConversionError, Item, relative_name
from toast_mm.conversion.readers.json_files import read_json, reading
from toast_mm.conversion.shapes import Bitmap, Polygon, Region, Shape, from_runs, rectangle

CROWDS = ('class', 'ignore', 'skip')
CROWD = 'crowd'  # label of crowds that are ignored


def read_coco(
    path: Path,
    images: Path,
    boxes: bool = False,
    holes: bool = False,
    crowds: str = 'class',
) -> Annotations:
    """Read polygons and masks.

    Args:
        path: The JSON file.
        images: Folder that ``file_name`` is relative to.
        boxes: Take the box of an annotation that has no segmentation.
        holes: A polygon inside another one of the same annotation is a hole. COCO's own tools unite
            the polygons of an annotation.
        crowds: Annotations with ``iscrowd``: ``'class'`` takes them like others, ``'ignore'`` gives
            them the label 255, ``'skip'`` leaves them out.

    Raises:
        ConversionError: The file is of another form.
        OSError: There is no such file.
    """
    data = read_json(path)
    found = Annotations()
    with reading(path):
        names = {category['id']: str(category['name']) for category in data['categories']}
        found.classes = [names[number] for number in sorted(names)]
        records = list(data['images'])
        of_image: defaultdict[Any, list[dict]] = defaultdict(list)
        for annotation in data['annotations']:
            of_image[annotation['image_id']].append(annotation)
    if len(set(found.classes)) < len(names):
        raise ConversionError(f'{path} has two categories of one name')
    for record in records:
        with reading(f'{path}, image {record.get("id")}'):
            file = images / record['file_name']
            item = Item(
                file,
                relative_name(file, images),
                f'{path}, image {record["id"]}',
                size=(int(record['width']), int(record['height'])),
            )
            annotations = of_image.pop(record['id'], [])
        for annotation in annotations:
            where = f'{path}, annotation {annotation.get("id")}'
            crowd = bool(annotation.get('iscrowd'))
            if crowd and crowds == 'skip':
                found.skip(where, 'it is a crowd (--crowds skip)')
                continue
            with reading(where):
                label = names[annotation['category_id']]
            try:
                with reading(where):
                    shape = _shape(annotation, item.size, boxes, holes)
            except ConversionError as error:
                found.skip(where, str(error).removeprefix(f'{where}: '))
                continue
            item.layers.append(Region(CROWD if crowd and crowds == 'ignore' else label, shape))
        found.items.append(item)
    for number, annotations in of_image.items():
        found.skip(f'{path}, image {number}', f'{len(annotations)} annotations of no image')
    return found


def _shape(annotation: dict, size: tuple[int, int] | None, boxes: bool, holes: bool) -> Shape:
    segmentation = annotation.get('segmentation')
    if isinstance(segmentation, dict):
        height, width = segmentation['size']
        if (width, height) != size:
            raise ConversionError(
                f'its mask is of {width} x {height} pixels, but its image of '
                f'{" x ".join(map(str, size or ()))}'
            )
        counts = segmentation['counts']
        if isinstance(counts, str):
            counts = _decompressed(counts)
        return Bitmap(from_runs(counts, width, height).T)  # COCO counts by columns
    if segmentation:
        rings = [[*zip(ring[::2], ring[1::2], strict=True)] for ring in segmentation]
        return Polygon(rings, holes)
    if boxes:
        left, top, width, height = annotation['bbox']
        return rectangle(left, top, left + width, top + height)
    raise ConversionError('it has no segmentation; --boxes takes its box')


def _decompressed(text: str) -> list[int]:
    """Runs of a compressed encoding.

    A character has 5 bits of a number, from the lowest on, and says whether more follow; the last
    one has the sign. From the fourth number on, they are differences to the number before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text.encode():
        code = character - 48
        if not 0 <= code < 64:
            raise ConversionError(f'its compressed mask has the character {chr(character)!r}')
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return runs
