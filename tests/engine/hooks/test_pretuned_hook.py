import os

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from toy_images import SIZES

from toast_mm.checkpoint import CheckpointError, load_from_local
from toast_mm.checkpoint.adapter import read_record
from toast_mm.checkpoint.pretuned import save_pretuned
from toast_mm.engine import PretunedHook
from toast_mm.files import WriteError
from toast_mm.models import TOASTViT


def hook(**kwargs) -> dict:
    return dict(type='toast_mm.PretunedHook', **kwargs)


def test_what_it_writes_is_what_pretuned_takes(steered_config, run, tmp_path, capsys):
    """On the same base, which is loaded from another file."""
    backbone = dict(feedback_from='middle', feedback_gain=2.0)
    cfg = steered_config(
        tmp_path / 'run', hook(), backbone=backbone, log_level='INFO', train_cfg__max_iters=5
    )
    runner = run(cfg)
    trained = runner.model.backbone
    file = str(tmp_path / 'run' / 'topdown.safetensors')
    assert f'The top-down module is in {file}: pretuned={file!r}' in capsys.readouterr().out
    checkpoint = load_from_local(str(tmp_path / 'run' / 'iter_5.pth'))['state_dict']
    weights = load_from_local(file)['state_dict']
    record = read_record(weights.pop('base_record'))
    assert weights.keys() == {f'topdown.{n}' for n in trained.topdown.state_dict()}
    for name, value in weights.items():
        assert torch.equal(value, checkpoint[f'backbone.{name}']), name
    assert record['route'] == dict(depth=4, feedback_from=2, feedback_to=0)

    base = {name: value for name, value in trained.state_dict().items() if 'topdown' not in name}
    torch.save(base, tmp_path / 'base.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'base.pth'))
    other = TOASTViT(**SIZES, feedback_from='middle', init_cfg=init_cfg, pretuned=file)
    other.init_weights()
    for name, value in trained.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    with pytest.raises(CheckpointError, match='fingerprint'):
        TOASTViT(**SIZES, feedback_from='middle', pretuned=file).init_weights()


def test_a_wrapped_model_and_another_name(steered_config, run, tmp_path, one_process_group):
    cfg = steered_config(tmp_path, hook(filename='vit_toast-last.safetensors'))
    runner = run(cfg, wrap=MMDistributedDataParallel)
    content = load_from_local(str(tmp_path / 'vit_toast-last.safetensors'))['state_dict']
    for name, value in runner.model.module.backbone.topdown.state_dict().items():
        assert torch.equal(value, content[f'topdown.{name}'])


def test_one_process_writes(steered_config, run, tmp_path, monkeypatch):
    monkeypatch.setattr('mmengine.dist.utils.is_main_process', lambda *_: False)
    run(steered_config(tmp_path, hook()))
    assert not list(tmp_path.glob('*.safetensors'))


def test_nothing_to_write_is_an_error_before_the_training(steered_config, run, spy, tmp_path):
    cfg = steered_config(tmp_path, hook(), backbone=dict(feedback_from=None))
    with pytest.raises(ValueError, match=r'^PretunedHook: the backbone has no top-down module'):
        run(cfg, spy)
    assert not spy.numbers


def test_a_base_whose_stem_trains_is_an_error_before_the_training(
    steered_config, run, spy, tmp_path
):
    cfg = steered_config(tmp_path, hook(), backbone=dict(tune_stem=True))
    with pytest.raises(ValueError, match=r'patch_embed\.projection\.weight trains: set .*=False'):
        run(cfg, spy)
    assert not spy.numbers


def test_a_module_that_the_training_starts_from_is_not_replaced(steered_config, run, tmp_path):
    run(steered_config(tmp_path, hook()))
    start = tmp_path / 'topdown.safetensors'
    before = start.read_bytes()
    cfg = steered_config(tmp_path, hook(), backbone=dict(pretuned=str(start)))
    with pytest.raises(
        ValueError, match=rf'would replace model\.backbone\.pretuned={start}, which'
    ):
        run(cfg)
    assert start.read_bytes() == before


def test_a_module_that_is_not_finite_is_not_written(tmp_path):
    backbone = TOASTViT(**SIZES, feedback_from='last')
    backbone.topdown.selection.task_embedding.data[0] = torch.nan
    with pytest.raises(CheckpointError, match=r'1 of 16 values of topdown\.selection\.task'):
        save_pretuned(backbone, str(tmp_path / 'a.safetensors'))
    assert not list(tmp_path.iterdir())


class Interrupt(Hook):
    def before_train_iter(self, runner, *args, **kwargs) -> None:
        if runner.iter == 2:
            raise KeyboardInterrupt


def test_an_interrupted_training_writes_nothing(steered_config, run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(steered_config(tmp_path, hook()), Interrupt())
    assert not list(tmp_path.glob('*.safetensors'))


def test_full_disk(steered_config, run, tmp_path, monkeypatch):
    (tmp_path / 'topdown.safetensors').write_text('former')
    replace = os.replace

    def fail(source, target):
        if target.endswith('.safetensors'):
            raise OSError(28, 'No space left on device')
        replace(source, target)

    monkeypatch.setattr(os, 'replace', fail)
    sentence = rf'^{tmp_path}/topdown\.safetensors cannot be written: .*No space left'
    with pytest.raises(WriteError, match=sentence):
        run(steered_config(tmp_path, hook(), train_cfg__max_iters=5))
    assert (tmp_path / 'topdown.safetensors').read_text() == 'former'
    assert (tmp_path / 'iter_5.pth').exists()  # from which --resume writes it again
    assert not list(tmp_path.rglob('*partial*'))
    monkeypatch.undo()


def test_a_finished_training_that_is_resumed_writes_the_file(
    steered_config, run, spy, tmp_path, monkeypatch
):
    runner = run(steered_config(tmp_path, train_cfg__max_iters=5))
    run(steered_config(tmp_path, hook(), train_cfg__max_iters=5, resume=True), spy)
    assert not spy.numbers
    content = load_from_local(str(tmp_path / 'topdown.safetensors'))['state_dict']
    embedding = runner.model.backbone.topdown.selection.task_embedding
    assert torch.equal(content['topdown.selection.task_embedding'], embedding)


def test_another_suffix():
    with pytest.raises(ValueError, match=r"filename='a\.pth' must end in \.safetensors"):
        PretunedHook(filename='a.pth')
