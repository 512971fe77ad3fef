from .inca import CrossAttentionAdapter
from .inca_decode_head import InCADecodeHead
from .inca_head import InCAHead

__all__ = ['CrossAttentionAdapter', 'InCADecodeHead', 'InCAHead']
