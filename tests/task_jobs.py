"""Jobs on the base that comes with the package, as a training leaves them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config

from toast_mm.checkpoint.adapter import frozen_base, leave_out_base, make_record
from toast_mm.engine.model import build_model

CONFIGS = Path(__file__).parents[1] / 'configs'


@dataclass
class Job:
    """A job: its config, and its checkpoint as task file."""

    cfg: Config
    path: Path
    task_file: Path


def make_job(folder: Path, name: str, config: str, classes: list[str], seed: int = 0) -> Job:
    """A job of random heads: what ``toast_mm.Runner`` saves at the end of a training."""
    cfg = Config.fromfile(CONFIGS / config)
    for key in ('head', 'decode_head', 'auxiliary_head'):
        if key in cfg.model:
            cfg.model[key].num_classes = len(classes)
            if 'norm_cfg' in cfg.model[key]:
                cfg.model[key].norm_cfg.type = 'BN'
    torch.manual_seed(seed)
    model = build_model(cfg)
    model.init_weights()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.startswith(('head.', 'decode_head.')) and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    weights = dict(model.state_dict())
    names = frozen_base(model.backbone)
    leave_out_base(weights, names, make_record(model.backbone, names), 'backbone.')
    path, task_file = folder / f'{name}.py', folder / f'{name}.pth'
    cfg.dump(path)
    meta = dict(cfg=cfg.pretty_text, seed=seed, dataset_meta=dict(classes=classes))
    torch.save(dict(state_dict=weights, meta=meta), task_file)
    return Job(cfg, path, task_file)
