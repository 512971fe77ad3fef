from .attention import AttentionMaps, attention_maps
from .picture import Row, draw_picture

__all__ = ['AttentionMaps', 'Row', 'attention_maps', 'draw_picture']
