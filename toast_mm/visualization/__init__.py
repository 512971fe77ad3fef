from toast_mm.imports import quiet_imports

with quiet_imports():
    from .attention import AttentionMaps, attention_maps, running_blocks
    from .picture import Row, View, as_image, draw_picture, save_picture

__all__ = [
    'AttentionMaps',
    'Row',
    'View',
    'as_image',
    'attention_maps',
    'draw_picture',
    'running_blocks',
    'save_picture',
]
