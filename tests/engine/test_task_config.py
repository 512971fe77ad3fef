"""The config in a checkpoint is read as data, and may only name parts of a model and a pipeline."""

import copy
import sys

import pytest
from mmengine.config import Config

from toast_mm.checkpoint import trusted
from toast_mm.engine.config import ConfigError
from toast_mm.engine.task_config import config_in, image_pipeline, inference_config

CFG = dict(
    default_scope='mmpretrain',
    custom_imports=dict(imports=['evil_module']),
    model=dict(
        type='ImageClassifier',
        backbone=dict(
            type='toast_mm.TOASTViT',
            patch_cfg=dict(conv_type='toast_mm.ConvStem'),
            out_type='cls_token',
            init_cfg=dict(type='Pretrained', checkpoint='base.pth'),
        ),
        head=dict(type='VisionTransformerClsHead', loss=dict(type='CrossEntropyLoss')),
        data_preprocessor=dict(type='ClsDataPreprocessor', mean=[1.0, 2.0, 3.0]),
    ),
    test_dataloader=dict(
        batch_size=4,
        dataset=dict(
            type='CustomDataset',
            data_root='/secret/place',
            pipeline=[
                dict(type='LoadImageFromFile', _scope_='toast_mm'),
                dict(type='toast_mm.LoadAnnotations'),
                dict(type='Resize', scale=(64, 64)),
                dict(type='mmpretrain.PackInputs'),
            ],
        ),
    ),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
)


def meta(**changes):
    cfg = Config(copy.deepcopy(CFG))
    cfg.merge_from_dict(changes)
    return dict(cfg=cfg.dump())


def test_only_what_inference_needs():
    augments = dict(augments=[dict(type='Mixup')])
    cfg = config_in(meta(**{'model.train_cfg': augments}), 'birds.pth')
    assert set(cfg) == {'default_scope', 'model', 'test_dataloader'}
    assert cfg.model == CFG['model']
    steps = CFG['test_dataloader']['dataset']['pipeline']
    assert cfg.test_dataloader == dict(dataset=dict(pipeline=[steps[0], *steps[2:]]))
    assert 'evil_module' not in sys.modules
    assert config_in(dict(cfg=cfg.dump()), 'birds.pth').to_dict() == cfg.to_dict()


def test_the_data_of_a_wrapper():
    wrapped = copy.deepcopy(CFG)
    dataset = wrapped['test_dataloader']['dataset']
    wrapped['test_dataloader']['dataset'] = dict(type='RepeatDataset', dataset=dataset)
    assert image_pipeline(wrapped) == image_pipeline(CFG)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('model.type', 'os.system'),
        ('model.type', 'mmpretrain.get_model'),
        ('model.type', 'mmpretrain.apis.model.ImageClassifier.get_model'),
        ('model.type', 'HuggingFaceClassifier'),
        ('model.type', 'evil_module.ImageClassifier'),
        ('model._scope_', 'evil_module'),
        ('model.backbone.type', 'RAM'),
        ('model.backbone.patch_cfg.conv_type', 'subprocess.Popen'),
        ('model.head.loss.type', 'mmengine.runner.Runner'),
        ('model.backbone.init_cfg.type', 'evil_module.Init'),
        ('data_preprocessor', dict(type='timm.create_model')),
        ('test_dataloader.dataset.pipeline.2.type', 'torchvision/ConvertImageDtype'),
        ('test_dataloader.dataset.pipeline.2.type', 'evil_module.Resize'),
        ('test_dataloader.dataset.pipeline.2.type', 'Albu'),
        ('test_dataloader.dataset.pipeline.2._scope_', 'evil_module'),
    ],
)
def test_other_names_are_refused(key, value):
    with pytest.raises(
        ConfigError, match=r'config in birds\.pth cannot be used: .*Name the config'
    ):
        config_in(meta(**{key: value}), 'birds.pth')


@pytest.mark.parametrize('name', ['SyncBN', 'BN', 'LN', 'GN', 'toast_mm.ConvStem'])
def test_layers_are_known(name):
    changed = meta(**{'model.head.norm_cfg': dict(type=name)})
    assert config_in(changed, 'birds.pth').model.head.norm_cfg.type == name


def test_what_is_missing():
    with pytest.raises(ConfigError, match=r'birds\.pth holds no config: name the config of its'):
        config_in({}, 'birds.pth')
    with pytest.raises(ConfigError, match='cannot be used: the config has no model'):
        config_in(dict(cfg='model = __import__("evil_module")'), 'birds.pth')
    with pytest.raises(ConfigError, match=r'no test_dataloader\.dataset\.pipeline'):
        inference_config(dict(model=dict(type='x')))
    with pytest.raises(ConfigError, match="default_scope='evil_module' is none of"):
        config_in(meta(default_scope='evil_module'), 'birds.pth')


def test_a_trusted_file_may_name_anything():
    changed = meta(**{'model.head.loss.type': 'mine.Loss', 'custom_imports.imports': ['json']})
    with trusted():
        assert config_in(changed, 'birds.pth').model.head.loss.type == 'mine.Loss'
