"""The files in configs/, and helpers for their tests."""

import copy
import functools
import json
import re
from pathlib import Path
from unittest import mock

import torch
from extras import is_installed
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer

import toast_mm  # noqa: F401  registers the parts

CONFIGS = Path(__file__).parents[2] / 'configs'
BASES = sorted(CONFIGS.glob('_base_/**/*.py'))
JOBS = sorted(set(CONFIGS.rglob('*.py')) - set(BASES))
if not is_installed('peft'):  # an extra
    JOBS = [path for path in JOBS if not path.name.startswith('dora_')]
DIM = 16


@functools.cache
def _parsed(path: Path) -> Config:
    return Config.fromfile(path)


def load(path: Path) -> Config:
    """A copy of a config, which is parsed once in a process."""
    return copy.deepcopy(_parsed(path))


QUICKSTART = sorted(CONFIGS.glob('quickstart/*.py'))
SCOPES = {path: load(path).default_scope for path in JOBS if path not in QUICKSTART}
SEGMENTATION = [path for path, scope in SCOPES.items() if scope == 'mmseg']
CLASSIFICATION = [path for path, scope in SCOPES.items() if scope == 'mmpretrain']


def name(path: Path) -> str:
    return str(path.relative_to(CONFIGS))


def depth(arch: str) -> int:
    return VisionTransformer.arch_zoo[arch]['num_layers']


# Settings in which configs differ that train in the same way.
SIZES = {'arch', 'img_size', 'in_channels', 'init_cfg', 'num_classes', 'out_indices', 'pretuned'}
LARGE = {
    f'vit_{size}_patch14_reg4_dinov2.lvd142m': 'vit_base_patch14_reg4_dinov2.lvd142m'
    for size in ('large', 'giant')
}


def without_sizes(part: object) -> object:
    if isinstance(part, dict):
        return {key: without_sizes(value) for key, value in part.items() if key not in SIZES}
    if isinstance(part, (list, tuple)):
        return [without_sizes(item) for item in part]
    return LARGE.get(part, part) if isinstance(part, str) else part


def representatives(paths: list[Path]) -> list[Path]:
    """Configs whose model or whose preparation of images differs from all before them."""
    chosen, models, preparations = [], set(), set()
    for path in paths:
        cfg = load(path).to_dict()
        preprocessor = cfg['model'].pop('data_preprocessor')
        model = json.dumps(without_sizes(cfg['model']), sort_keys=True)
        datasets = [cfg[f'{part}_dataloader']['dataset'] for part in ('train', 'test')]
        pipelines = [dataset.get('pipeline', dataset) for dataset in datasets]
        preparation = json.dumps([without_sizes(preprocessor), pipelines], sort_keys=True)
        if model not in models or preparation not in preparations:
            chosen.append(path)
        models.add(model)
        preparations.add(preparation)
    return chosen


def narrow(cfg: Config) -> list[int]:
    """Give a model a narrow backbone without weights; channels of its blocks or stages."""
    backbone = cfg.model.backbone
    backbone.init_cfg = None
    if 'pretuned' in backbone:
        backbone.pretuned = None
    if backbone.type == 'toast_mm.TOASTTimm':
        backbone.pretrained = False
        if backbone.model_name == 'tf_efficientnet_lite0':  # small as it is
            return [16, 24, 40, 112, 1280]
        if backbone.model_name.startswith('convnext'):
            channels = [DIM // 2, DIM // 2, DIM // 2, DIM]
            backbone.update(dims=channels, depths=[1, 1, 1, 1])
            return channels
        backbone.update(embed_dim=DIM, num_heads=2, mlp_ratio=1)
        return [DIM] * 4
    arch = backbone.arch
    if 'ConvNeXt' in backbone.type:
        channels = [DIM // 2, DIM // 2, DIM // 2, DIM]  # for 8 heads of InCA
        backbone.arch = dict(depths=[1, 1, 1, 1], channels=channels)
        return channels
    layers = arch.num_layers if isinstance(arch, dict) else depth(arch)
    backbone.arch = dict(embed_dims=DIM, num_layers=layers, num_heads=2, feedforward_channels=DIM)
    return [DIM] * 4


def pixel_statistics(cfg: Config) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and std that images of a job are normalised with."""
    preprocessor = cfg.model.data_preprocessor
    mean, std = preprocessor.get('mean'), preprocessor.get('std')
    if preprocessor.type.startswith('toast_mm.Timm'):
        of_imagenet = not re.match('.*siglip|tf_efficientnet_lite', preprocessor.model_name)
        mean = [123.675, 116.28, 103.53] if of_imagenet else [127.5] * 3
        std = [58.395, 57.12, 57.375] if of_imagenet else [127.5] * 3
    return torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)


def full_size(cfg: Config) -> torch.nn.Module:
    """Full-size model of a config, without memory for its weights."""
    cfg.model.backbone.init_cfg = None
    # mmpretrain's ConvNeXt reads its drop rates from a tensor.
    on_cpu = functools.partial(torch.linspace, device='cpu')
    with mock.patch('torch.linspace', on_cpu), torch.device('meta'):
        return MODELS.build(cfg.model)


def build(cfg: Config) -> torch.nn.Module:
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


# Patterns of the parameters that methods tune; for Partial, the last block of a ViT-B.
TUNED = {
    'toast_mm.LoRA': r'.*\.lora_(up|down)\.weight',
    'toast_mm.VPT': r'.*\.prompts',
    'toast_mm.BitFit': r'.*\.bias',
    'toast_mm.SSF': r'.*\.ssf_(scale|shift)',
    'toast_mm.AdaptFormer': r'.*\.adapter\..*',
    'toast_mm.PEFT': r'.*\.peft\.lora_(A|B|magnitude_vector)\.default\.weight',
    'toast_mm.Partial': r'(layers\.11|ln1)\..*',
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
    # The norms on the lower dense outputs of a ConvNeXt are new.
    if inner.startswith(('topdown.', 'norm0.', 'norm1.', 'norm2.')):
        return True
    tuning = backbone.get('tuning')
    return tuning is not None and re.fullmatch(TUNED[tuning.type], inner) is not None
