"""Readers of formats of annotations, one a file."""

from toast_mm.conversion.readers.coco import read_coco
from toast_mm.conversion.readers.csv_table import read_csv
from toast_mm.conversion.readers.cvat import read_cvat
from toast_mm.conversion.readers.folders import read_folders
from toast_mm.conversion.readers.label_studio import read_label_studio
from toast_mm.conversion.readers.labelme import read_labelme
from toast_mm.conversion.readers.rgb_masks import read_rgb_masks

__all__ = [
    'read_coco',
    'read_csv',
    'read_cvat',
    'read_folders',
    'read_label_studio',
    'read_labelme',
    'read_rgb_masks',
]
