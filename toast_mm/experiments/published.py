"""Figures of the paper (Shi et al., https://arxiv.org/abs/2305.15542), tables 1, 2, 4-6, 9, 11."""

from __future__ import annotations

from toast_mm.datasets.vtab import VTAB_TASKS

FGVC = ('cub', 'nabirds', 'flowers', 'dogs', 'cars')
_SEGMENTATION = ('voc12aug', 'ade20k')


def _rows(columns: tuple[str, ...], backbone: str, text: str) -> dict:
    """``method: figures`` in every line."""
    lines = (line.split(':') for line in text.strip().splitlines())
    return {
        (backbone, method.strip()): dict(zip(columns, map(float, figures.split()), strict=True))
        for method, figures in lines
    }


# Figures in percent by backbone and method, then by data set.
PUBLISHED: dict[tuple[str, str], dict[str, float]] = {}
for _columns, _backbone, _text in (
    (
        FGVC,
        'vit-b16-in1k',
        """
        Linear: 76.8 47.3 81.7 97.7 60.3
        Fine-tune: 80.5 60.2 86.9 94.7 83.2
        VPT: 76.9 72.2 80.6 97.3 62.8
        LoRA: 82.5 71.2 81.2 97.5 76.6
        TOAST-Lite: 84.5 76.9 89.4 97.4 82.0
        TOAST: 85.0 75.2 88.7 97.4 84.5
        TOAST-Early: 84.2 74.0 85.2 97.2 81.7
        TOAST-Late: 83.7 75.9 86.1 97.3 77.5
        """,
    ),
    (
        FGVC,
        'convnext-b-in1k',
        """
        Fine-tune: 87.5 72.3 97.1 86.3 87.7
        LoRA: 89.6 75.8 99.3 88.5 67.7
        TOAST: 90.2 85.6 99.2 88.4 85.8
        """,
    ),
    (
        FGVC,
        'vit-l16-in21k',
        """
        Fine-tune: 88.3 69.4 98.1 89.8 84.3
        LoRA: 89.1 73.9 98.2 94.3 78.1
        TOAST: 89.5 75.4 98.5 93.4 85.3
        """,
    ),
    (
        tuple(VTAB_TASKS),
        'vit-b16-in1k',
        """
        Fine-tune: 44.7 77.3 55.5 74.5 86.0 85.1 17.4 84.9 95.0 82.8 74.2 60.2 53.1 33.5 77.6 61.9 39.0 15.0 36.6
        VPT: 65.3 90.5 67.7 88.3 88.6 82.2 40.6 82.3 94.5 83.1 74.0 51.5 51.1 44.1 69.3 63.8 49.5 25.3 28.6
        LoRA: 69.3 88.8 66.6 90.3 90.3 81.9 41.5 83.4 94.8 83.5 75.0 66.8 56.9 48.9 77.6 76.2 53.5 26.6 37.1
        TOAST: 73.8 92.1 68.7 93.0 89.0 76.3 41.9 82.8 95.3 85.7 74.6 61.2 58.7 43.5 78.8 86.1 51.2 27.0 43.4
        TOAST-Lite: 69.0 91.0 65.9 93.3 88.0 78.9 42.9 81.6 96.1 86.0 74.3 62.8 53.3 44.8 73.7 66.0 41.2 26.5 39.0
        """,  # noqa: E501
    ),
    (
        tuple(VTAB_TASKS),
        'vit-b16-in21k',
        """
        Fine-tune: 70.2 85.8 64.3 97.5 85.8 85.9 40.0 78.2 95.7 83.8 73.9 53.1 57.3 37.5 68.2 60.5 35.2 18.8 28.0
        VPT: 75.4 88.7 66.3 98.1 87.3 73.7 52.3 80.3 93.5 83.4 74.1 49.6 58.1 41.9 62.7 65.1 42.9 24.0 24.2
        LoRA: 83.6 89.4 66.2 98.6 89.4 83.8 52.6 81.1 95.8 84.6 74.7 77.6 59.5 46.8 74.1 73.0 48.6 25.6 32.2
        TOAST: 82.1 90.5 70.5 98.7 89.7 71.9 53.3 84.3 95.5 85.5 74.2 75.4 60.8 44.7 77.5 73.9 47.5 24.5 33.7
        """,  # noqa: E501
    ),
    (
        _SEGMENTATION,
        'vit-b16',  # as segmentation jobs are named; of ImageNet-21k
        """
        Fine-tune: 82.05 47.89
        VPT: 76.80 41.42
        LoRA: 78.43 42.94
        TOAST: 80.44 45.11
        """,
    ),
):
    for _key, _figures in _rows(_columns, _backbone, _text).items():
        PUBLISHED.setdefault(_key, {}).update(_figures)
