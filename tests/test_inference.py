"""mmseg's inference API on a config of this project."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmseg.apis import MMSegInferencer, inference_model, init_model

import toast_mm  # noqa: F401  registers the parts

CONFIG = 'configs/camvid/toast-vit-1m_upernet_1xb8-600_camvid-96x96.py'


# mmseg's inferencer builds a visualizer without a folder when nothing is to be written.
@pytest.mark.filterwarnings('ignore:Failed to add')
def test_mmseg_api(camvid, tmp_path):
    cfg = Config.fromfile(Path(__file__).parents[1] / CONFIG)
    cfg.model.decode_head.norm_cfg.type = cfg.model.auxiliary_head.norm_cfg.type = 'BN'
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    checkpoint = str(tmp_path / 'weights.pth')
    meta = dict(dataset_meta=dict(cfg.metainfo))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)

    image = str(next((camvid / 'JPEGImages').iterdir()))
    model = init_model(cfg, checkpoint, device='cpu')
    labels = inference_model(model, image).pred_sem_seg.data
    assert labels.shape == (1, 48, 64) and labels.max() < 11

    with DefaultScope.overwrite_default_scope('mmseg'):
        inferencer = MMSegInferencer(model=cfg, weights=checkpoint, device='cpu')
        result = inferencer(image, return_datasamples=False, show=False)
    np.testing.assert_array_equal(result['predictions'], labels[0].numpy())
