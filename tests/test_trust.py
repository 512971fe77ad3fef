"""Only configs that the user names run code: one canary for every way to read a file."""

import json
import pickle

import mmengine
import mmengine.runner
import numpy as np
import pytest
import torch
from canary import Canary, code, yaml
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.infer import BaseInferencer
from mmengine.runner import CheckpointLoader
from mmpretrain.datasets import MultiTaskDataset
from mmseg.apis import MMSegInferencer

import toast_mm
from toast_mm.checkpoint import CheckpointError, load_from_local, trusted
from toast_mm.checkpoint.adapter import RECORD
from toast_mm.checkpoint.convert.read import read_weights
from toast_mm.engine.first_passes import DamagedCacheError, FirstPassCache
from toast_mm.experiments.results import read_results
from toast_mm.models import TOASTViT
from toast_mm.trust import UntrustedFileError

WAY_OUT = (
    r'if you trust its author, read it inside `with toast_mm\.checkpoint\.trusted\(\):`, or '
    'set TOAST_MM_TRUST_FILES=1$'
)


@pytest.fixture
def mark(tmp_path):
    """The folder that running code would make; it must not exist at the end."""
    path = tmp_path / 'mark'
    yield path
    assert not path.exists()


def test_the_canaries_work(tmp_path):
    """Otherwise the other tests would mean nothing."""
    pickle.loads(pickle.dumps(Canary(tmp_path / 'pickle')))
    exec(code(tmp_path / 'code'))
    with trusted():
        (tmp_path / 'a.yaml').write_text(yaml(tmp_path / 'yaml'))
        mmengine.load(tmp_path / 'a.yaml')
    assert {path.name for path in tmp_path.iterdir()} == {'pickle', 'code', 'yaml', 'a.yaml'}


class TestCheckpoints:
    @pytest.fixture
    def evil(self, tmp_path, mark):
        torch.save(dict(state_dict={}, meta=Canary(mark)), tmp_path / 'evil.pth')
        return tmp_path / 'evil.pth'

    @pytest.mark.parametrize('scheme', ['s3://', 'petrel://', 'cluster:s3://', 'cluster:petrel://'])
    def test_object_stores(self, evil, monkeypatch, scheme):
        class Backend:
            def get(self, name):
                return evil.read_bytes()

        monkeypatch.setattr(
            'mmengine.runner.checkpoint.get_file_backend', lambda *a, **k: Backend()
        )
        with pytest.raises(
            CheckpointError, match=rf'^{scheme}bucket/a\.pth: .* is refused: .*mkdir.*{WAY_OUT}'
        ):
            CheckpointLoader.load_checkpoint(f'{scheme}bucket/a.pth', map_location='cpu')

    def test_a_zoo_that_names_a_file(self, evil, monkeypatch):
        """``open-mmlab://`` reads a table of names in MMENGINE_HOME."""
        monkeypatch.setenv('MMENGINE_HOME', str(evil.parent))
        (evil.parent / 'open_mmlab.json').write_text(json.dumps(dict(mine='evil.pth')))
        for scheme in ('open-mmlab://', 'openmmlab://'):
            with pytest.raises(CheckpointError, match=rf'evil\.pth is refused: .*{WAY_OUT}'):
                CheckpointLoader.load_checkpoint(f'{scheme}mine')

    def test_an_archive_of_jax(self, tmp_path, mark):
        np.savez(tmp_path / 'a.npz', a=np.array([Canary(mark)], dtype=object))
        with pytest.raises(CheckpointError, match=r'a\.npz is damaged or not an npz'):
            read_weights(str(tmp_path / 'a.npz'))

    def test_a_task_file(self, evil, tmp_path):
        """It names its base, which is read like any checkpoint."""
        arch = dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=8)
        settings = dict(arch=arch, img_size=16, patch_size=8, feedback_from=None)
        backbone = TOASTViT(**settings)
        record = dict(
            fingerprint='0' * 64,
            method=backbone.method,
            form={},
            as_in_the_base=[],
            init_cfg=[dict(type='Pretrained', checkpoint=str(evil))],
            pretuned=None,
        )
        content = torch.tensor(list(json.dumps(record).encode()), dtype=torch.uint8)
        with pytest.raises(CheckpointError, match=r'evil\.pth is refused'):
            backbone.load_state_dict({RECORD: content})

    def test_trusted_files(self, tmp_path, monkeypatch):
        """A context, and a variable for a whole process."""
        file = str(tmp_path / 'mine.pth')
        torch.save(dict(state_dict={}, meta=dict(path=tmp_path)), file)
        with pytest.raises(CheckpointError, match=f'code of pathlib.*{WAY_OUT}'):
            load_from_local(file)
        with trusted():
            assert load_from_local(file)['meta']['path'] == tmp_path
        with pytest.raises(CheckpointError):
            load_from_local(file)
        monkeypatch.setenv('TOAST_MM_TRUST_FILES', '1')
        assert CheckpointLoader.load_checkpoint(file)['meta']['path'] == tmp_path
        monkeypatch.setenv('TOAST_MM_TRUST_FILES', '0')
        with pytest.raises(CheckpointError):
            load_from_local(file)


class TestConfigsInCheckpoints:
    @pytest.mark.parametrize(
        'text',
        [
            '{code}',
            'model = dict(type="os.mkdir", path={mark!r})',  # mmengine builds what a type names
            '_base_ = {code}',
            'a = "{{{{$UNSET:";{code};b="}}}}"',
        ],
        ids=['statement', 'type', 'base', 'variable'],
    )
    @pytest.mark.parametrize('place', ['meta', 'hub'])
    def test_inferencers(self, tmp_path, mark, text, place):
        text = text.format(code=code(mark), mark=str(mark))
        checkpoint = dict(state_dict={}, meta=dict(cfg=text))
        if place == 'hub':
            checkpoint['message_hub'] = dict(runtime_info=dict(cfg=text))
        file = tmp_path / 'evil.pth'
        torch.save(checkpoint, file)
        with pytest.raises(
            UntrustedFileError,
            match=rf'^the config in checkpoint {file} is refused, .*name a config file.*{WAY_OUT}',
        ):
            MMSegInferencer(None, str(file), device='cpu')

    def test_a_trusted_one_is_built(self, tmp_path):
        """And the checkpoint is not changed."""
        text = 'model = dict(type="mmengine.model.Linear0")'
        file = str(tmp_path / 'mine.pth')
        torch.save(dict(state_dict={}, meta=dict(cfg=text)), file)
        assert load_from_local(file)['meta'] == dict(cfg=text)
        with trusted(), pytest.raises(KeyError, match='Linear0 is not in the'):
            MMSegInferencer(None, file, device='cpu')

    def test_inferencers_of_others_are_those_of_mmengine(self):
        assert MMSegInferencer._init_model is BaseInferencer._init_model


class TestData:
    @pytest.mark.parametrize('dataset', [BaseDataset, MultiTaskDataset])
    @pytest.mark.parametrize('suffix', ['pkl', 'pickle', 'yaml', 'yml'])
    def test_annotations(self, tmp_path, mark, dataset, suffix):
        file = tmp_path / f'list.{suffix}'
        if suffix.startswith('p'):
            file.write_bytes(pickle.dumps(dict(metainfo={}, data_list=[Canary(mark)])))
        else:
            file.write_text(f'metainfo: {{}}\ndata_list: [{yaml(mark)}]')
        with pytest.raises(
            UntrustedFileError,
            match=rf'^{file} is refused: reading it would run .*mkdir.*{WAY_OUT}',
        ):
            dataset(ann_file=str(file))

    def test_a_yaml_config(self, tmp_path, mark):
        (tmp_path / 'job.yaml').write_text(f'model: {yaml(mark)}')
        with pytest.raises(UntrustedFileError, match=r'job\.yaml is refused: .*os\.mkdir'):
            Config.fromfile(tmp_path / 'job.yaml')


class TestWorkDirs:
    @pytest.mark.parametrize(
        'config',
        [
            'train_cfg = dict(max_epochs=5)\n{code}',
            'train_cfg = dict(max_epochs=5)\nmodel = dict(type="os.mkdir", path={mark!r})',
            '_base_ = {code}\ntrain_cfg = dict(max_epochs=5)',
            'train_cfg = {code}',
        ],
        ids=['statement', 'type', 'base', 'setting'],
    )
    def test_a_config_in_a_table(self, tmp_path, mark, config):
        place = tmp_path / 'job' / '1' / 'vis_data'
        place.mkdir(parents=True)
        (place / 'scalars.json').write_text('{"accuracy/top1": 5.0, "step": 5}')
        (place / 'config.py').write_text(config.format(code=code(mark), mark=str(mark)))
        if config.startswith('train_cfg = {'):
            with pytest.raises(ValueError, match=rf'^{place}/config\.py has no plain train_cfg'):
                read_results(tmp_path / 'job', 'accuracy/top1')
        else:
            (result,) = read_results(tmp_path / 'job', 'accuracy/top1')
            assert (result.value, result.tuned) == (5.0, None)


def test_a_first_pass_cache(tmp_path):
    """Objects in a memory-mapped file would be arbitrary addresses."""
    cache = FirstPassCache(tmp_path)
    cache.meta = dict(number=8, offsets=dict(a=0), arrays=dict(a=['O', 8]), checksums=dict(a=''))
    (tmp_path / 'a.npy').write_bytes(bytes(64))
    with pytest.raises(DamagedCacheError, match='holds objects instead of first passes'):
        cache.open('r')


def test_the_package_exports_trusted():
    assert toast_mm.checkpoint.trusted is trusted
