"""mmpretrain knows the jobs of this package by their names."""

import numpy as np
import torch
from mmpretrain import ImageClassificationInferencer, get_model, list_models
from safetensors.torch import load_file

import toast_mm.apis  # noqa: F401  registers the jobs
from toast_mm.checkpoint import WEIGHTS
from toast_mm.models import TOASTViT

BASE = 'vit-1m_1xb128-75e_tinyin100-64x64'


def test_jobs_are_listed():
    names = list_models('toast*cub25*')
    assert 'toast-last_vit-1m_1xb32-20e_cub25-64x64' in names
    assert all(name.startswith('toast') and 'cub25' in name for name in names)
    assert BASE in list_models(task='Image Classification')
    assert 'vit-base-p16_32xb128-mae_in1k' in list_models()  # mmpretrain's own are still there


def test_a_job_is_built():
    model = get_model('toast-last_vit-1m_1xb32-20e_cub25-64x64', head=dict(num_classes=3))
    assert isinstance(model.backbone, TOASTViT)
    assert model.head.num_classes == 3
    assert model.backbone.route.feedback_from == 6


def test_weights_come_with_the_package():
    model = get_model(BASE, pretrained=True)
    weights = load_file(WEIGHTS / 'vit-1m_tinyin100.safetensors')
    state = model.state_dict()
    assert set(weights) <= set(state)
    for name, tensor in weights.items():
        torch.testing.assert_close(state[name], tensor.to(state[name].dtype))


def test_an_inferencer_takes_the_name():
    inferencer = ImageClassificationInferencer(BASE, pretrained=True, device='cpu')
    scores = inferencer(np.full((64, 64, 3), 128, np.uint8))[0]['pred_scores']
    assert scores.shape == (100,)
    np.testing.assert_allclose(scores.sum(), 1, rtol=1e-5)
