"""Inference APIs of mmseg and mmpretrain on configs of this project."""

from itertools import permutations, product
from pathlib import Path

import mmpretrain
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from mmpretrain import ImageClassificationInferencer
from mmseg.apis import MMSegInferencer, inference_model, init_model

import toast_mm.apis  # noqa: F401  registers the parts and the jobs
from toast_mm.checkpoint.adapter import frozen_base, leave_out_base, make_record
from toast_mm.files import save_safetensors

CONFIG = 'configs/camvid/toast-vit-1m_upernet_1xb8-600_camvid-96x96.py'
CLASSIFIER = 'configs/cub25/toast-lite_vit-1m_1xb32-20e_cub25-64x64.py'


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

    check(cfg, checkpoint, camvid)


@pytest.mark.filterwarnings('ignore:Failed to add')
def test_mmseg_api_on_a_task_file(camvid, tmp_path):
    """It finds its base, although these tools drop init_cfg."""
    cfg = Config.fromfile(Path(__file__).parents[1] / CONFIG)
    cfg.model.decode_head.norm_cfg.type = cfg.model.auxiliary_head.norm_cfg.type = 'BN'
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    checkpoint = save_task_file(model, tmp_path, dict(cfg.metainfo))
    expected = check(cfg, checkpoint, camvid)
    image = str(next((camvid / 'JPEGImages').iterdir()))
    model.cfg = cfg
    np.testing.assert_array_equal(inference_model(model.eval(), image).pred_sem_seg.data, expected)


def test_mmpretrain_api_on_a_task_file(folders, tmp_path):
    cfg = Config.fromfile(Path(__file__).parents[1] / CLASSIFIER)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    classes = [f'species {number}' for number in range(25)]
    checkpoint = save_task_file(model, tmp_path, dict(classes=classes))
    image = str(next((folders / 'val' / 'class_0').iterdir()))
    cfg.model.backbone.init_cfg = None
    result = ImageClassificationInferencer(cfg, pretrained=checkpoint, device='cpu')(image)[0]
    pipeline = Compose(cfg.test_dataloader.dataset.pipeline)
    batch = pseudo_collate([pipeline(dict(img_path=image))])
    with torch.no_grad():
        expected = model.eval().test_step(batch)[0].pred_score
    np.testing.assert_allclose(result['pred_scores'], expected.numpy(), atol=1e-6)
    assert result['pred_class'] == classes[int(expected.argmax())]


# Each sets a default scope, or leaves that of the one before.
def by_inferencer(image):
    job = Path(CONFIG).relative_to('configs')
    names = (CONFIG, Path(CONFIG).stem, f'toast_mm::{job}')
    for name, scope in product(names, ('mmseg', 'toast_mm')):
        MMSegInferencer(name, scope=scope, device='cpu', show_progress=False)(image)


def by_init_model(image):
    inference_model(init_model(CONFIG, device='cpu'), image)


def by_classification_inferencer(image):
    ImageClassificationInferencer(Path(CLASSIFIER).stem, pretrained=False, device='cpu')(image)


def by_mmpretrain(image):
    mmpretrain.inference_model(Path(CLASSIFIER).stem, image, pretrained=False, device='cpu')


INTERFACES = (by_inferencer, by_init_model, by_classification_inferencer, by_mmpretrain)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:Failed to add', 'ignore:Checkpoint is not', 'ignore:weights is')
@pytest.mark.filterwarnings('ignore:Unable to find pre-defined')
@pytest.mark.parametrize('order', [*permutations(INTERFACES, 2)])
def test_interfaces_after_each_other(order, camvid, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    DefaultScope._instance_dict.clear()
    for predict in order:
        predict(str(next((camvid / 'JPEGImages').iterdir())))


def test_a_name_is_found_in_the_index(monkeypatch):
    """Without building: mmseg's inferencer gets the config, its scope, and mmseg's own models."""
    inferencer = MMSegInferencer.__new__(MMSegInferencer)
    for scope in ('mmseg', 'toast_mm'):
        inferencer.scope = scope
        cfg, weights = inferencer._load_model_from_metafile(Path(CONFIG).stem)
        assert (cfg.filename.split('/')[-1], weights) == (Path(CONFIG).name, None)
        assert DefaultScope.get_current_instance().scope_name == 'mmseg'
    inferencer.scope = 'mmseg'
    theirs, weights = inferencer._load_model_from_metafile(
        'fcn_r50-d8_4xb2-40k_cityscapes-512x1024'
    )
    assert theirs.model.type == 'EncoderDecoder' and weights.startswith('https://')
    with pytest.raises(ValueError, match='Cannot find model: nothing in mmseg'):
        inferencer._load_model_from_metafile('nothing')


def save_task_file(model, folder: Path, dataset_meta: dict) -> str:
    """The release form of a task on the base that comes with the package."""
    weights = dict(model.state_dict())
    names = frozen_base(model.backbone)
    leave_out_base(weights, names, make_record(model.backbone, names), 'backbone.')
    path = str(folder / 'task.safetensors')
    save_safetensors(weights, path, dict(dataset_meta=dataset_meta))
    return path


def check(cfg: Config, checkpoint: str, camvid: Path) -> np.ndarray:
    """Assert that both interfaces of mmseg predict the same, and what."""
    image = str(next((camvid / 'JPEGImages').iterdir()))
    model = init_model(cfg, checkpoint, device='cpu')
    labels = inference_model(model, image).pred_sem_seg.data
    assert labels.shape == (1, 48, 64) and labels.max() < 11

    inferencer = MMSegInferencer(model=cfg, weights=checkpoint, device='cpu')
    result = inferencer(image, return_datasamples=False, show=False)
    np.testing.assert_array_equal(result['predictions'], labels[0].numpy())
    return labels.numpy()
