from toast_mm.imports import quiet_imports

with quiet_imports():
    from .attention import AttentionMaps, attention_maps
    from .picture import Row, draw_picture

__all__ = ['AttentionMaps', 'Row', 'attention_maps', 'draw_picture']
