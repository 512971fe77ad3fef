"""Weights that are infinite or NaN are not published, folded, converted, exported or looked at."""

import math

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from published_checkpoints import published_vit


@pytest.fixture(autouse=True)
def files(classifier_job, folders, tmp_path, monkeypatch):
    """The whole model of a job, and a checkpoint of the published code, with values spoiled."""
    monkeypatch.chdir(tmp_path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(Config.fromfile(classifier_job).model)
    weights = model.state_dict()
    weights['head.layers.head.weight'][0, :2] = torch.tensor([math.nan, -math.inf])
    torch.save(dict(state_dict=weights), 'w.pth')
    published = {f'enc.{name}': tensor for name, tensor in published_vit().items()}
    published['enc.prompt'][1] = math.inf
    torch.save({'model_state_dict': published}, 'p.pth')
    (tmp_path / 'i.png').symlink_to(next((folders / 'val').rglob('*.png')))


HEAD = r'w\.pth: 2 of 32 values of head\.layers\.head\.weight are not finite'


@pytest.mark.parametrize(
    ('command', 'sentence'),
    [
        ('misc/publish_model w.pth o.safetensors --half', HEAD),
        ('model_converters/fold classifier.py w.pth o.pth', HEAD),
        ('model_converters/fold classifier.py w.pth o.safetensors', HEAD),
        ('model_converters/toast2mm p.pth o.pth', r'p\.pth: 1 of \d+ values of .*task_embedding'),
        ('deployment/export_onnx classifier.py w.pth o.onnx --size 32 32', HEAD),
        ('visualization/attention classifier.py w.pth --out o.png', HEAD),
        ('multi_task i.png --task a classifier.py w.pth', f"task 'a': checkpoint {HEAD}"),
    ],
)
def test_refused(tool, tmp_path, command, sentence):
    before = {*tmp_path.iterdir()}
    with pytest.raises(SystemExit, match=sentence):
        tool(*command.split())
    assert {*tmp_path.iterdir()} == before
