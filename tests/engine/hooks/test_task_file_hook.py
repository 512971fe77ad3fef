"""Checkpoints without the base: their content, and that every reader loads them."""

import json
from types import SimpleNamespace

import pytest
import torch
from mmengine._strategy import DeepSpeedStrategy
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from toy_images import SIZES, toy_image

from toast_mm.checkpoint import CheckpointError, load_from_local
from toast_mm.checkpoint.fingerprint import fingerprint
from toast_mm.engine import Runner, TaskFileHook
from toast_mm.models import TOASTViT

BITFIT = dict(feedback_from=None, tuning=dict(type='toast_mm.BitFit'))


@pytest.fixture
def base(tmp_path) -> str:
    """A file with the weights of a base."""
    return save_base(tmp_path / 'base.pth', seed=3)


def save_base(path, seed: int) -> str:
    torch.manual_seed(seed)
    vit = TOASTViT(**SIZES, feedback_from=None)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.save(vit.state_dict(), path)
    return str(path)


@pytest.fixture
def config(steered_config, base, tmp_path):
    def make(name='run', backbone=None, **changes):
        init_cfg = dict(type='Pretrained', checkpoint=base)
        return steered_config(
            tmp_path / name,
            backbone=dict(init_cfg=init_cfg) | (backbone or {}),
            task_files=True,
            default_hooks__checkpoint__interval=1,
            **changes,
        )

    return make


def outputs(model):
    images = torch.stack([toy_image(number) for number in range(3)])
    with torch.no_grad():
        return model.eval()(images / 255 - 0.5)[0]


def build(cfg, **backbone):
    """A model as inference tools build it: init_cfg is dropped, no weight is initialised."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(cfg.model, backbone=dict(cfg.model.backbone, **backbone)))
    return model


def test_it_holds_what_is_tuned_and_loads_by_itself(config, run, tmp_path, base):
    cfg = config()
    trained = run(cfg).model
    file = str(tmp_path / 'run' / 'iter_3.pth')
    weights = load_from_local(file)['state_dict']
    tuned = {n for n, p in trained.named_parameters() if p.requires_grad}
    assert weights.keys() == tuned | {'backbone.base_record', 'backbone.pos_embed'}
    record = json.loads(bytes(weights['backbone.base_record'].tolist()))
    frozen = {n: t for n, t in torch.load(base).items() if n != 'pos_embed'}
    assert record == dict(
        fingerprint=fingerprint(frozen),
        method='TOAST',
        signature=dict(
            token_selection=True, value_bias_twice=True, out_indices=[3], out_type='cls_token'
        ),
        route=dict(depth=4, feedback_from=4, feedback_to=0),
        as_in_the_base=['pos_embed'],
        init_cfg=[dict(type='Pretrained', checkpoint=base)],
        pretuned=None,
    )
    expected = outputs(trained)
    for init_cfg in (None, dict(type='Pretrained', checkpoint=base)):
        model = build(cfg, init_cfg=init_cfg)
        load_checkpoint(model, file, map_location='cpu', strict=True)
        assert torch.equal(outputs(model), expected)
    model.load_state_dict(load_from_local(file)['state_dict'])  # by PyTorch alone


def test_a_pretuned_path_that_stays_frozen_is_left_out_too(config, run, tmp_path):
    """TOAST-Lite: it holds updates, selection and head; the record names the rest."""
    run(config('pretune', custom_hooks=[dict(type='toast_mm.PretunedHook')]))
    pretuned = str(tmp_path / 'pretune' / 'topdown.safetensors')
    cfg = config(backbone=dict(lite=dict(rank=2), pretuned=pretuned))
    trained = run(cfg).model
    file = str(tmp_path / 'run' / 'iter_3.pth')
    names = {n.removeprefix('backbone.topdown.') for n in load_from_local(file)['state_dict']}
    assert all(
        n.startswith(('head.', 'selection.', 'backbone.base_', 'backbone.pos_embed'))
        or '.updates.' in n
        for n in names
    )
    for changes in (dict(), dict(init_cfg=None, pretuned=None)):
        model = build(cfg, **changes)
        load_checkpoint(model, file, map_location='cpu', strict=True)
        assert torch.equal(outputs(model), outputs(trained))
    (tmp_path / 'pretune' / 'topdown.safetensors').unlink()
    with pytest.raises(CheckpointError, match=r'needs its base, .*topdown\.safetensors does not'):
        load_checkpoint(build(cfg), file, map_location='cpu', strict=True)


def test_tuned_weights_of_the_base_are_in_it(config, run, tmp_path):
    cfg = config(backbone=BITFIT)
    trained = run(cfg).model
    file = str(tmp_path / 'run' / 'iter_3.pth')
    weights = load_from_local(file)['state_dict']
    assert all(
        n.endswith(('.bias', 'base_record', 'pos_embed')) or n.startswith('head.') for n in weights
    )
    model = build(cfg, init_cfg=None)
    load_checkpoint(model, file, map_location='cpu', strict=True)
    assert torch.equal(outputs(model), outputs(trained))


def test_resumed_equals_uninterrupted(config, run, tmp_path):
    whole = run(config('whole', train_cfg__max_iters=5)).model
    run(config('parts', train_cfg__max_iters=2))
    resumed = run(config('parts', train_cfg__max_iters=5, resume=True)).model
    for name, parameter in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], parameter), name


def test_an_average_leaves_out_the_base_too(config, run, tmp_path):
    hooks = [dict(type='toast_mm.StepSeedHook'), dict(type='EMAHook', momentum=0.3)]
    whole = run(config('whole', train_cfg__max_iters=5, custom_hooks=hooks))
    checkpoint = load_from_local(str(tmp_path / 'whole' / 'iter_5.pth'))
    names = {f'module.{name}' for name in checkpoint['state_dict']} | {'steps'}
    assert checkpoint['ema_state_dict'].keys() == names
    run(config('parts', train_cfg__max_iters=2, custom_hooks=hooks))
    parts = run(config('parts', train_cfg__max_iters=5, custom_hooks=hooks, resume=True))
    for name, parameter in whole.model.state_dict().items():
        assert torch.equal(parts.model.state_dict()[name], parameter), name


def test_another_base_is_refused_with_both_fingerprints(config, run, tmp_path, base):
    cfg = config()
    run(cfg)
    file = str(tmp_path / 'run' / 'iter_3.pth')
    other = save_base(tmp_path / 'other.pth', seed=4)
    prints = [
        fingerprint({n: t for n, t in torch.load(path).items() if n != 'pos_embed'})[:12]
        for path in (base, other)
    ]
    model = build(cfg, init_cfg=dict(type='Pretrained', checkpoint=other))
    with pytest.raises(CheckpointError, match=rf'{prints[0]}, but .*other\.pth has {prints[1]}'):
        load_checkpoint(model, file, map_location='cpu')


def test_a_base_that_is_gone_is_named(config, run, tmp_path, base):
    cfg = config()
    run(cfg)
    (tmp_path / 'base.pth').unlink()
    with pytest.raises(CheckpointError, match=rf'needs its base, .*{base} does not exist'):
        load_checkpoint(
            build(cfg, init_cfg=None), str(tmp_path / 'run' / 'iter_3.pth'), map_location='cpu'
        )


def test_a_task_file_of_another_method_is_refused(config, run, tmp_path):
    cfg = config()
    run(cfg)
    weights = load_from_local(str(tmp_path / 'run' / 'iter_3.pth'))['state_dict']
    lora = build(cfg, feedback_from=None, tuning=dict(type='toast_mm.LoRA'))
    with pytest.raises(CheckpointError, match='is of TOAST, and this backbone is built for LoRA'):
        lora.load_state_dict(weights)
    with pytest.raises(CheckpointError, match=r'is of TOAST, and .* for linear probe'):
        load_checkpoint(build(cfg, feedback_from=None), str(tmp_path / 'run' / 'iter_3.pth'))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(value_bias_twice=False), 'with value_bias_twice=True, and .* value_bias_twice=False'),
        (dict(token_selection=False), 'with token_selection=True, and .* token_selection=False'),
        (dict(out_type='raw'), "with out_type='cls_token', and this one has out_type='raw'"),
        (dict(out_indices=[2, 3]), r'with out_indices=\[3\], and this one has .*\[2, 3\]'),
    ],
)
def test_a_backbone_that_computes_something_else_is_refused(config, run, tmp_path, change, message):
    """Weights do not show the difference."""
    cfg = config()
    run(cfg)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(build(cfg, **change), str(tmp_path / 'run' / 'iter_3.pth'))


def test_positions_are_those_of_the_task(config, run, tmp_path):
    """A base that differs only in them is accepted, since they are in the file."""
    cfg = config()
    expected = outputs(run(cfg).model)
    weights = torch.load(cfg.model.backbone.init_cfg.checkpoint)
    torch.save(dict(weights, pos_embed=weights['pos_embed'] + 1), tmp_path / 'moved.pth')
    model = build(cfg, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'moved.pth')))
    load_checkpoint(model, str(tmp_path / 'run' / 'iter_3.pth'), map_location='cpu', strict=True)
    assert torch.equal(outputs(model), expected)


def test_weights_in_the_file_are_not_searched_elsewhere(config, run, tmp_path):
    """TOAST that starts from a pre-tuned module tunes all of it."""
    run(config('pretune', custom_hooks=[dict(type='toast_mm.PretunedHook')]))
    pretuned = tmp_path / 'pretune' / 'topdown.safetensors'
    cfg = config(backbone=dict(pretuned=str(pretuned)))
    expected = outputs(run(cfg).model)
    pretuned.unlink()
    model = build(cfg, init_cfg=None)
    load_checkpoint(model, str(tmp_path / 'run' / 'iter_3.pth'), map_location='cpu', strict=True)
    assert torch.equal(outputs(model), expected)


def test_a_training_from_other_weights_than_init_cfg_names_is_refused(config, run, tmp_path):
    other = save_base(tmp_path / 'other.pth', seed=4)
    start = {f'backbone.{name}': tensor for name, tensor in torch.load(other).items()}
    torch.save(dict(state_dict=start), tmp_path / 'start.pth')
    with pytest.raises(ValueError, match=r'its task files could not be loaded: .*base\.pth has'):
        run(config(load_from=str(tmp_path / 'start.pth')))


def test_it_names_the_base_after_the_base_of_another_run_was_loaded(config, run, tmp_path, base):
    """A model that holds other weights gets its base back."""
    cfg = config()
    trained = run(cfg).model
    expected = outputs(trained)
    for parameter in trained.backbone.parameters():
        torch.nn.init.zeros_(parameter)
    load_checkpoint(trained, str(tmp_path / 'run' / 'iter_3.pth'), map_location='cpu', strict=True)
    assert torch.equal(outputs(trained), expected)


@pytest.mark.parametrize(
    ('backbone', 'message'),
    [
        (dict(init_cfg=None), 'leaves out the base and must name it'),
        (dict(feedback_from=None, frozen=False), 'nothing in the backbone is frozen'),
    ],
)
def test_without_a_base_there_is_no_task_file(config, run, backbone, message):
    with pytest.raises(ValueError, match=message):
        run(config(backbone=backbone))


def test_a_foreign_backbone_does_not_know_its_base(config, run):
    cfg = config()
    cfg.model.backbone = dict(type='VisionTransformer', **SIZES)
    with pytest.raises(ValueError, match='VisionTransformer does not support task files'):
        run(cfg)


def test_deepspeed_writes_no_task_files():
    """mmengine's strategy calls no hook that could leave the base out."""
    strategy = object.__new__(DeepSpeedStrategy)  # without the package
    with pytest.raises(ValueError, match=r'DeepSpeedStrategy calls no hook .*FullyShardedDataPar'):
        TaskFileHook().before_train(SimpleNamespace(strategy=strategy))


def test_it_is_asked_for(config):
    cfg = config()
    hooks = [type(hook).__name__ for hook in Runner.from_cfg(cfg).hooks]
    assert hooks.count('TaskFileHook') == 1
    cfg.task_files = False
    cfg.experiment_name = 'without'
    assert 'TaskFileHook' not in [type(hook).__name__ for hook in Runner.from_cfg(cfg).hooks]
