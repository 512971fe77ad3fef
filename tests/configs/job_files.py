"""The files under configs/, and what all tests of them need."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer

import toast_mm  # noqa: F401  registers the parts

CONFIGS = Path(__file__).parents[2] / 'configs'
PIECES = sorted(CONFIGS.glob('_base_/**/*.py'))
JOBS = sorted(set(CONFIGS.rglob('*.py')) - set(PIECES))
QUICKSTART = sorted(CONFIGS.glob('quickstart/*.py'))
SCOPES = {path: Config.fromfile(path).default_scope for path in JOBS if path not in QUICKSTART}
SEGMENTATION = [path for path, scope in SCOPES.items() if scope == 'mmseg']
CLASSIFICATION = [path for path, scope in SCOPES.items() if scope == 'mmpretrain']
DIM = 16


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def depth(arch: str) -> int:
    return VisionTransformer.arch_zoo[arch]['num_layers']


def narrow(cfg: Config) -> list[int]:
    """Give a model a narrow backbone without weights; channels of its blocks or stages."""
    backbone = cfg.model.backbone
    arch = backbone.arch
    backbone.init_cfg = None
    if 'pretuned' in backbone:
        backbone.pretuned = None
    if 'ConvNeXt' in backbone.type:
        channels = [DIM // 2, DIM // 2, DIM // 2, DIM]  # for 8 heads of InCA
        backbone.arch = dict(depths=[1, 1, 1, 1], channels=channels)
        return channels
    layers = arch.num_layers if isinstance(arch, dict) else depth(arch)
    backbone.arch = dict(embed_dims=DIM, num_layers=layers, num_heads=2, feedforward_channels=DIM)
    return [DIM] * 4


def build(cfg: Config) -> torch.nn.Module:
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


# What the methods of the jobs tune, by the ends of names.
TUNED = {
    'toast_mm.LoRA': ('.lora_up.weight', '.lora_down.weight'),
    'toast_mm.VPT': ('.prompts',),
}


def is_tuned(cfg: Config, parameter: str) -> bool:
    """Whether a parameter of a job's model trains."""
    backbone = cfg.model.backbone
    if not parameter.startswith('backbone.') or backbone.get('frozen') is False:
        return True
    if not backbone.type.startswith('toast_mm.TOAST'):
        return True
    inner = parameter.removeprefix('backbone.')
    if inner.startswith('topdown.feedback.') and backbone.get('lite'):
        return '.updates.' in inner
    # A ConvNeXt's norms of dense outputs below the last are new.
    if inner.startswith(('topdown.', 'norm0.', 'norm1.', 'norm2.')):
        return True
    tuning = backbone.get('tuning')
    return tuning is not None and inner.endswith(TUNED[tuning.type])
