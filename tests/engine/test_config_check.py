"""Wrong settings, compared with the arguments of classes of any package."""

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

import toast_mm  # noqa: F401  registers the parts
from toast_mm.engine.config import ConfigError
from toast_mm.engine.config_check import check_config, check_kinds


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


class Base:
    """Annotations as in other packages."""

    def __init__(
        self,
        place: dict | None = None,
        bias: bool = 'qv',
        sizes: int = 3,
        rate: float = 0.5,
        flag=False,
        free=None,
    ) -> None: ...


class Wider(Base):
    """Accepts more types for one argument than its base."""

    def __init__(self, place: str | dict = '', **others) -> None:
        super().__init__(**others)


@pytest.mark.parametrize(
    ('settings', 'sentence'),
    [
        (dict(flag=3), r'^model\.flag=3 must be True or False$'),
        (dict(flag='maybe'), "flag='maybe' must be True or False"),
        (dict(place=3), r'place=3 must be dict\(\.\.\.\)'),
        (dict(place='train'), r"place='train' must be dict\(\.\.\.\)"),
        (dict(sizes='abc'), "sizes='abc' must be an integer"),
        (dict(rate='abc'), "rate='abc' must be a number"),
    ],
)
def test_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_kinds(dict(model=dict(type=Base, **settings)))


@pytest.mark.parametrize(
    ('cls', 'settings'),
    [
        (Wider, dict(place='train', flag=True)),
        # An annotation that its own default contradicts.
        (Base, dict(bias='q')),
        (Base, dict(bias=3)),
        # Values in configs of other packages that their annotations exclude.
        (Base, dict(sizes=(14, 14), rate=None, place=[dict(a=1)], flag=[False, True])),
        (Base, dict(sizes=0.7, free='any')),
    ],
)
def test_accepted(cls, settings):
    check_kinds(dict(model=dict(type=cls, **settings)))


@pytest.mark.parametrize(
    ('key', 'part', 'sentence'),
    [
        ('pipeline', dict(type='Resize', scale=8, keep_ratio=3), r'pipeline\.0\.keep_ratio=3 must'),
        (
            'pipeline',
            dict(type='RandomResize', scale=8, keep_ratio='no'),
            r"keep_ratio='no' must be",
        ),
        (
            'pipeline',
            dict(type='RandomChoiceResize', scales=[8], keep_ratio=3),
            'keep_ratio=3 must',
        ),
        ('dataset', dict(type='CustomDataset', lazy_init=2), r'dataset\.0\.lazy_init=2 must be T'),
        ('model', dict(type='mmseg.FCNHead', concat_input=2), r'model\.0\.concat_input=2 must be'),
        ('model', dict(type='mmseg.CrossEntropyLoss', use_sigmoid=3), 'use_sigmoid=3 must be True'),
    ],
)
def test_classes_of_other_packages(key, part, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_kinds({key: [part]})
    check_kinds({key: [dict(type='CustomDataset', data_prefix='train')]})


@pytest.mark.parametrize(
    ('settings', 'sentence'),
    [
        (dict(log_level='LOUD'), "log_level='LOUD' must be 'DEBUG', 'INFO'"),
        (dict(auto_scale_lr=3), r'auto_scale_lr=3 must be dict\(\.\.\.\) or None'),
        (dict(env_cfg=dict(mp_cfg=3)), r'env_cfg\.mp_cfg=3 must be dict'),
        (dict(optim_wrapper=dict(clip_grad=dict(max_norm='a'))), r"max_norm='a' must be a number"),
        (
            dict(optim_wrapper=dict(accumulative_counts=0)),
            r'accumulative_counts=0 must be at least',
        ),
        (
            dict(val_dataloader=dict(batch_size=0.5)),
            r'val_dataloader\.batch_size=0\.5 must be an i',
        ),
        (dict(train_dataloader=dict(num_workers=-1)), r'num_workers=-1 must be at least 0'),
        (dict(test_dataloader=dict(batch_size=1)), r'^test_dataloader has no dataset$'),
        (dict(optim_wrapper={}), r'^optim_wrapper is empty: it needs optimizer=dict'),
    ],
)
def test_sections(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_config(Config(settings))
    check_config(Config(dict(log_level='INFO', env_cfg=dict(cudnn_benchmark=False))))
