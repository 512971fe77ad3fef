"""Every segmentation config builds with a tiny arch; one config of each form trains."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from job_files import (
    CONFIGS,
    SEGMENTATION,
    build,
    full_size,
    is_tuned,
    load,
    name,
    narrow,
    pixel_statistics,
    representatives,
)
from mmengine.config import Config
from mmengine.registry import MODELS, RUNNERS, DefaultScope
from mmengine.runner import Runner


def smaller(part):
    """Make images an eighth as large: 150 classes at 512 x 512 take seconds per config."""
    if isinstance(part, dict):
        return type(part)({key: smaller(value) for key, value in part.items()})
    if isinstance(part, (list, tuple)):
        return type(part)(map(smaller, part))
    sizes = {2048: 256, 518: 70, 512: 64, 341: 43}
    return sizes.get(part, part) if type(part) is int else part


def is_linear(cfg: Config) -> bool:
    return cfg.model.decode_head.type == 'toast_mm.LinearDecodeHead'


def shrink(cfg: Config, data_root: Path) -> Config:
    """The same job with narrow layers, without pre-trained weights, on small data of a test."""
    cfg = Config(smaller(cfg.to_dict()))
    channels = narrow(cfg)
    if is_linear(cfg):
        cfg.model.decode_head.update(in_channels=channels[-1], norm_cfg=dict(type='BN'))
    else:
        cfg.model.decode_head.update(in_channels=channels, channels=8)
    if auxiliary := cfg.model.get('auxiliary_head'):
        auxiliary.update(in_channels=channels[auxiliary.in_index], channels=8)
        for head in (cfg.model.decode_head, auxiliary):
            head.norm_cfg.type = 'BN'
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        for dataset in loader.dataset.get('datasets', [loader.dataset]):
            dataset.data_root = str(data_root)
    return cfg


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def data_root(request):
    """Data set of a config, from its name."""
    return lambda path: request.getfixturevalue(
        re.search(r'ade20k|voc12aug|camvid', Path(path).name)[0]
    )


@pytest.mark.parametrize('path', SEGMENTATION, ids=name)
def test_what_trains(path, data_root):
    cfg = shrink(load(path), data_root(path))
    model = MODELS.build(cfg.model)
    assert len(model.backbone.out_indices) == (1 if is_linear(cfg) else 4)
    assert model.decode_head.num_classes == cfg.num_classes
    for parameter_name, parameter in model.named_parameters():
        assert parameter.requires_grad == is_tuned(cfg, parameter_name), parameter_name


@pytest.mark.parametrize('path', representatives(SEGMENTATION), ids=name)
def test_jobs_train_and_predict(path, data_root):
    cfg = shrink(load(path), data_root(path))
    torch.manual_seed(0)
    model = build(cfg)

    model.train()
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    data = model.data_preprocessor(batch, training=True)
    crop = cfg.crop_size
    assert data['inputs'].shape[1:] == (3, *crop)
    mean, std = pixel_statistics(cfg)
    top, left = (min(side, 40) for side in crop)
    expected = (batch['inputs'][0].flip(0).float() - mean) / std  # BGR to RGB
    torch.testing.assert_close(data['inputs'][0][:, :top, :left], expected[:, :top, :left])

    losses = model.loss(**data)
    terms = {name: value for name, value in losses.items() if 'loss' in name}
    if is_linear(cfg):
        assert terms.keys() == {'decode.loss_ce'}
    elif cfg.model.auxiliary_head:
        assert terms.keys() == {'decode.loss_ce', 'aux.loss_ce'}
    else:  # InCA: a loss for every layer
        assert terms.keys() == {f'decode.loss_ce_layer{layer}' for layer in range(4)}
    total = sum(terms.values())
    assert total.isfinite() and total > 0
    total.backward()
    for parameter_name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == is_tuned(cfg, parameter_name), parameter_name

    model.eval()
    sample = next(iter(Runner.build_dataloader(cfg.test_dataloader, seed=0)))
    with torch.no_grad():
        result = model.test_step(sample)[0]
    assert result.pred_sem_seg.shape == sample['data_samples'][0].gt_sem_seg.shape
    assert result.pred_sem_seg.data.max() < cfg.num_classes


@pytest.mark.parametrize(
    'path, source',
    [
        ('ade20k/toast-vit-b16_upernet_8xb2-160k_ade20k-512x512.py', 6),
        ('ade20k/toast-last-vit-b16_upernet_8xb2-160k_ade20k-512x512.py', 12),
        ('voc12aug/toast-vit-b16_upernet_8xb2-20k_voc12aug-512x512.py', 6),
        ('voc12aug/toast-last-vit-b16_upernet_8xb2-20k_voc12aug-512x512.py', 12),
    ],
)
def test_full_size_vit_jobs_follow_the_recipe(path, source):
    """REFERENCE: AbSViT's UPerNet with the paper's route (sec. 4.4), on 8 x 2 images."""
    cfg = load(CONFIGS / path)
    model = full_size(cfg)
    route = model.backbone.route
    assert (route.depth, route.feedback_from, route.feedback_to) == (12, source, 0)
    assert model.backbone.out_indices == [2, 5, 8, 11]
    assert model.backbone.embed_dims == 768
    assert model.backbone.patch_embed.projection.stride == (16, 16)
    feedback = sum(p.numel() for p in model.backbone.topdown.feedback.parameters())
    assert feedback == 2 * source * 768**2
    assert model.decode_head.channels == 512 and model.auxiliary_head.channels == 256
    assert model.auxiliary_head.loss_decode.loss_weight == 0.4
    iterations = 160000 if 'ade20k' in path else 20000
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == iterations
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 1500
    assert cfg.train_dataloader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.crop_size == (512, 512)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 6e-5, 0.01)
    assert cfg.model.data_preprocessor.mean == cfg.model.data_preprocessor.std == [127.5] * 3


@pytest.mark.parametrize('data', ['ade20k', 'voc12aug'])
def test_full_size_convnext_jobs(data):
    (path,) = (CONFIGS / data).glob('toast-last-convnext-b_upernet_*.py')
    cfg = load(path)
    vit = load(path.with_name(path.name.replace('convnext-b', 'vit-b16')))
    for part in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'train_dataloader'):
        assert cfg[part] == vit[part]
    model = full_size(cfg)
    route = model.backbone.route
    assert (route.depth, route.feedback_from, route.feedback_to) == (4, 4, 0)
    assert model.backbone.depths == [3, 3, 27, 3]
    assert model.decode_head.in_channels == model.backbone.channels == [128, 256, 512, 1024]
    assert (model.auxiliary_head.in_index, model.auxiliary_head.in_channels) == (2, 512)
    assert cfg.model.data_preprocessor.mean == [123.675, 116.28, 103.53]


# Side of the crops, channels and strides of the maps for UPerNet.
FULL_SIZE = {
    'vit-b14-dinov2': (518, [768] * 4, [14] * 4),
    'vit-l14-dinov2': (518, [1024] * 4, [14] * 4),
    'vit-b16-dinov3': (512, [768] * 4, [16] * 4),
    'vit-b16-siglip2': (512, [768] * 4, [16] * 4),
    'convnext-b-dinov3': (512, [128, 256, 512, 1024], [4, 8, 16, 32]),
}


@pytest.mark.slow
@pytest.mark.parametrize('base', FULL_SIZE)
def test_full_size_maps_fit_the_heads(base):
    side, channels, strides = FULL_SIZE[base]
    jobs = {path.name.split('-')[0]: path for path in (CONFIGS / 'ade20k').glob(f'*-{base}_*.py')}
    assert jobs.keys() == {'linear', 'lora', 'toast'}
    for path in jobs.values():
        cfg = load(path)
        assert cfg.model.data_preprocessor.model_name == cfg.model.backbone.model_name
        assert cfg.crop_size == cfg.model.data_preprocessor.size == (side, side)
        assert f'-{side}x{side}' in path.name
    assert load(jobs['linear']).model.decode_head.in_channels == channels[-1]
    model = full_size(load(jobs['toast'])).eval()
    with torch.device('meta'):
        maps = model.extract_feat(torch.rand(1, 3, side, side))
    assert [tuple(m.shape) for m in maps] == [
        (1, c, side // s, side // s) for c, s in zip(channels, strides, strict=True)
    ]
    assert model.decode_head.in_channels == channels
    assert model.auxiliary_head.in_channels == channels[model.auxiliary_head.in_index]


@pytest.mark.parametrize(
    ('base', 'decay', 'schedule', 'dropout'),
    [
        ('vit-b14-dinov2', 1e-4, 'PolyLR', 0),
        ('vit-b16-dinov3', 1e-3, 'CosineAnnealingLR', 0.1),
    ],
)
@pytest.mark.parametrize('data', ['ade20k', 'voc12aug'])
def test_linear_jobs_follow_the_released_recipes(data, base, decay, schedule, dropout):
    """DINOv2's and DINOv3's configs of a linear head: 40k iterations of 16 crops, AdamW 1e-3."""
    (path,) = (CONFIGS / data).glob(f'linear-{base}_8xb2-40k_*.py')
    cfg = load(path)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 1e-3, decay)
    assert cfg.train_cfg.max_iters == 40000
    assert [(s.type, s.begin, s.end) for s in cfg.param_scheduler] == [
        ('LinearLR', 0, 1500),
        (schedule, 1500, 40000),
    ]
    assert cfg.train_dataloader.batch_size * 8 == 16
    slide = dict(mode='slide', crop_size=cfg.crop_size, stride=(341, 341))
    assert cfg.model.test_cfg.to_dict() == slide
    model = build(shrink(cfg, CONFIGS))
    assert (model.decode_head.dropout or torch.nn.Dropout(0)).p == dropout
    wrapper = RUNNERS.get('toast_mm.Runner').build_optim_wrapper(
        SimpleNamespace(model=model), cfg.optim_wrapper
    )
    tuned = [p for group in wrapper.param_groups for p in group['params'] if p.requires_grad]
    assert {id(p) for p in tuned} == {id(p) for p in model.decode_head.parameters()}
    assert {group['weight_decay'] for group in wrapper.param_groups} == {decay}


PARENT = CONFIGS / 'ade20k/toast-vit-b16_upernet_8xb2-160k_ade20k-512x512.py'


def test_the_job_of_the_model_card():
    assert load(CONFIGS / 'ade20k_toast_upernet.py').to_dict() == load(PARENT).to_dict()


@pytest.mark.parametrize(
    ('model', 'blocks'),
    [
        ('vit-b16-in21k', 12),
        ('vit-1m-tinyin100', 6),
        ('convnext-b-in1k', 4),
    ],
)
def test_the_model_changes_by_one_line(model, blocks, tmp_path, ade20k):
    base = CONFIGS / f'_base_/models/upernet_toast-{model}.py'
    text = PARENT.read_text()
    assert text.count('upernet_toast-vit-b16-in21k.py') == 1
    text = text.replace('upernet_toast-vit-b16-in21k.py', base.name)
    (tmp_path / 'job.py').write_text(text.replace("'../_base_", f"'{CONFIGS}/_base_"))
    cfg = Config.fromfile(tmp_path / 'job.py')
    built = build(shrink(cfg, ade20k))
    assert built.backbone.depth == blocks
    assert cfg.model.data_preprocessor.mean == load(base).model.data_preprocessor.mean
    out = built(torch.rand(2, 3, 64, 64))
    assert out.shape == (2, 150, *out.shape[2:])


@pytest.mark.parametrize(
    'method, parts',
    [
        ("feedback_from='last'", {'topdown': 12}),
        ('', {'topdown': 6}),
        ("feedback_from='last', feedback_to='middle'", {'topdown': 6}),
        ("feedback_from='last', lite=dict(rank=4, alpha=1.0)", {'topdown': 12}),
        ('feedback_from=None', {}),
        ('feedback_from=None, frozen=False', {'layers': 12}),
    ],
)
def test_a_method_is_what_a_child_says(method, parts, tmp_path, ade20k):
    text = f"_base_ = '{PARENT}'\nmodel = dict(backbone=dict({method}))\n"
    (tmp_path / 'job.py').write_text(text)
    backbone = build(shrink(Config.fromfile(tmp_path / 'job.py'), ade20k)).backbone
    tuned = [name for name, p in backbone.named_parameters() if p.requires_grad]
    assert {name.split('.')[0] for name in tuned} >= set(parts)
    if 'topdown' in parts:
        assert len({name.split('.')[3] for name in tuned if 'descend' in name}) == parts['topdown']
        assert all(
            ('.updates.' in name) == ('lite' in method) for name in tuned if 'descend' in name
        )
        assert all(name.startswith('topdown.') for name in tuned)
    elif not parts:
        assert tuned == []
    else:
        assert len(tuned) == len(list(backbone.parameters()))


def test_test_time_augmentation_is_defined_for_every_job():
    for path in SEGMENTATION:
        cfg = load(path)
        assert cfg.tta_model.type == 'SegTTAModel'
        assert cfg.tta_pipeline[-1].type == 'TestTimeAug'
