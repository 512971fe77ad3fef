"""Methods that TOAST is compared with, chosen by the argument ``tuning`` of a backbone."""

from .adaptformer import AdaptFormer
from .lora import LoRA
from .partial import BitFit, Partial
from .ssf import SSF
from .vpt import VPT

__all__ = ['SSF', 'VPT', 'AdaptFormer', 'BitFit', 'LoRA', 'Partial']
