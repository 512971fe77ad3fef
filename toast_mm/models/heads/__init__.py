from .inca import CrossAttentionAdapter
from .inca_decode_head import InCADecodeHead
from .inca_head import InCAHead
from .linear_decode_head import LinearDecodeHead

__all__ = ['CrossAttentionAdapter', 'InCADecodeHead', 'InCAHead', 'LinearDecodeHead']
