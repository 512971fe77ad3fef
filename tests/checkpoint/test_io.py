import hashlib
import importlib.util
import inspect
import io
import json
import os
import pickle
import re
import traceback
import warnings
from collections import OrderedDict
from pathlib import Path

import mmengine.runner.checkpoint
import numpy as np
import pytest
import safetensors.torch
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file
from torch import nn

import toast_mm
from toast_mm.checkpoint import CheckpointError, check_fit, load_from_local

WEIGHTS = {'weight': torch.arange(6.0).reshape(2, 3), 'bias': torch.tensor([1.5, -2.0])}


class Proof:
    """Creates a folder when it is unpickled."""

    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


class PlainClass:
    pass


def torch_bytes(content, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def mmengine_checkpoint() -> dict:
    """A checkpoint with every type that mmengine's runner saves."""
    model = nn.Linear(3, 2)
    model.load_state_dict(WEIGHTS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    losses = HistoryBuffer()
    losses.update(1.0)
    losses.update(0.25, count=2)
    dataset_meta = dict(
        classes=('sky', 'road'), palette=[[1, 2, 3], [4, 5, 6]], sizes=np.arange(3, dtype='u2')
    )
    return dict(
        meta=dict(
            epoch=1,
            iter=np.int64(7),
            seed=3,
            best=np.float32(0.5),
            done=np.bool_(True),
            cfg='a = 1',
            dataset_meta=dataset_meta,
        ),
        state_dict=model.state_dict(),
        message_hub=dict(
            log_scalars=OrderedDict(loss=losses), runtime_info=OrderedDict(score=np.float64(0.75))
        ),
        optimizer=optimizer.state_dict(),
        param_schedulers=[dict(last_step=7, _last_value=[0.1])],
    )


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Folder of downloads."""
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    return tmp_path / 'hub' / 'checkpoints'


class TestRefusal:
    @pytest.mark.parametrize('zipped', [True, False])
    def test_foreign_objects_are_not_executed(self, tmp_path, zipped):
        proof, file = tmp_path / 'proof', tmp_path / 'evil.pth'
        assert pickle.loads(pickle.dumps(Proof(os.mkdir, str(tmp_path / 'works')))) is None
        assert (tmp_path / 'works').exists()

        evil = dict(state_dict=WEIGHTS, meta=Proof(os.mkdir, str(proof)))
        file.write_bytes(torch_bytes(evil, zipped))
        with pytest.raises(
            CheckpointError, match=r'refused.* run the code of posix\.mkdir'
        ) as info:
            load_from_local(str(file))
        assert str(file) in str(info.value)
        assert not proof.exists()

    @pytest.mark.parametrize(
        'content',
        [
            Proof(eval, '__import__("os").mkdir("proof")'),
            Proof(getattr, HistoryBuffer, '__init__'),
            Proof(getattr, np.ndarray, 'tofile'),
        ],
        ids=['eval', 'getattr buffer', 'getattr array'],
    )
    def test_builtins_are_refused(self, tmp_path, monkeypatch, content):
        """This includes getattr, which mmengine's own checkpoints need."""
        monkeypatch.chdir(tmp_path)
        torch.save(dict(state_dict=WEIGHTS, meta=content), 'evil.pth')
        with pytest.raises(CheckpointError, match=r'evil\.pth is refused'):
            load_from_local('evil.pth')
        assert not (tmp_path / 'proof').exists()

    @pytest.mark.parametrize(
        ('content', 'name'),
        [
            (PlainClass(), __name__ + '.PlainClass'),
            (nn.Linear(1, 1), 'torch.nn.modules.linear.Linear'),
            (np.array(['a', None]), 'numpy.dtypes.ObjectDType'),
        ],
        ids=['class', 'whole module', 'object array'],
    )
    def test_message_names_file_and_class(self, tmp_path, content, name):
        file = tmp_path / 'foreign.pth'
        torch.save(dict(state_dict=WEIGHTS, meta=dict(a=content)), file)
        with pytest.raises(CheckpointError) as info:
            load_from_local(str(file))
        assert str(info.value) == (
            f'checkpoint {file} is refused: reading it would run the code of {name}. '
            'Save it again as plain tensors (a state dict) or as safetensors, or, if you trust '
            'its author, read it inside `with toast_mm.checkpoint.trusted():`, or set '
            'TOAST_MM_TRUST_FILES=1'
        )

    def test_every_reader_of_mmengine_refuses(self, tmp_path):
        proof, file = tmp_path / 'proof', str(tmp_path / 'evil.pth')
        torch.save(dict(WEIGHTS, extra=Proof(os.mkdir, str(proof))), file)

        class Pretrained(BaseModule):
            def __init__(self, prefix=None):
                super().__init__(dict(type='Pretrained', checkpoint=file, prefix=prefix))
                self.weight = nn.Parameter(torch.zeros(2, 3))

        for read in (
            lambda: CheckpointLoader.load_checkpoint(file),
            lambda: mmengine.runner.checkpoint._load_checkpoint(file),
            lambda: load_checkpoint(nn.Linear(3, 2), file),
            lambda: Pretrained().init_weights(),
            lambda: Pretrained(prefix='backbone.').init_weights(),
        ):
            with pytest.raises(CheckpointError, match='is refused'):
                read()
        assert not proof.exists()


class TestReading:
    @pytest.mark.parametrize(
        ('zipped', 'core'), [(True, b'_core'), (False, b'_core'), (False, b'core')]
    )
    def test_mmengine_checkpoint_loads_whole(self, tmp_path, zipped, core):
        """With the names of functions in numpy 1 and numpy 2."""
        saved, content = mmengine_checkpoint(), torch_bytes(mmengine_checkpoint(), zipped)
        content = re.sub(rb'numpy\._?core\.', b'numpy.%b.' % core, content)
        (tmp_path / 'iter_7.pth').write_bytes(content)

        loaded = load_from_local(str(tmp_path / 'iter_7.pth'))

        assert loaded.keys() == saved.keys()
        for name, tensor in saved['state_dict'].items():
            assert torch.equal(loaded['state_dict'][name], tensor)
        assert torch.equal(
            loaded['optimizer']['state'][0]['exp_avg'], saved['optimizer']['state'][0]['exp_avg']
        )
        assert loaded['optimizer']['param_groups'] == saved['optimizer']['param_groups']
        assert loaded['param_schedulers'] == saved['param_schedulers']
        sizes = loaded['meta']['dataset_meta'].pop('sizes')
        assert sizes.dtype == np.uint16 and sizes.tolist() == [0, 1, 2]
        saved['meta']['dataset_meta'].pop('sizes')
        assert loaded['meta'] == saved['meta']
        assert loaded['message_hub']['runtime_info'] == {'score': 0.75}
        losses = loaded['message_hub']['log_scalars']['loss']
        assert [values.tolist() for values in losses.data] == [[1.0, 0.25], [1, 2]]
        assert losses.statistics('mean', 2) == pytest.approx(1.25 / 3)
        assert losses.statistics('max') == 1.0

    def test_safetensors(self, tmp_path):
        file = str(tmp_path / 'weights.safetensors')
        save_file(WEIGHTS, file)
        for map_location in (None, 'cpu', torch.device('cpu')):
            loaded = CheckpointLoader.load_checkpoint(file, map_location=map_location)
            assert loaded.keys() == {'state_dict', 'meta'}
            assert loaded['meta'] == {}
            loaded = loaded['state_dict']
            assert loaded.keys() == WEIGHTS.keys()
            assert all(torch.equal(loaded[name], WEIGHTS[name]) for name in WEIGHTS)

    def test_metadata_of_safetensors(self, tmp_path):
        save_file(WEIGHTS, tmp_path / 'weights.safetensors', {'topdown': '{"a": 1}'})
        loaded = load_from_local(str(tmp_path / 'weights.safetensors'))
        assert loaded['meta'] == {'topdown': '{"a": 1}'}

    def test_readers_of_mmengine_take_safetensors(self, tmp_path):
        file = str(tmp_path / 'weights.safetensors')
        save_file({f'backbone.{name}': tensor for name, tensor in WEIGHTS.items()}, file)

        class Pretrained(BaseModule):
            def __init__(self):
                super().__init__(dict(type='Pretrained', checkpoint=file, prefix='backbone.'))
                self.weight = nn.Parameter(torch.zeros(2, 3))
                self.bias = nn.Parameter(torch.zeros(2))

        model = Pretrained()
        model.init_weights()
        assert torch.equal(model.weight, WEIGHTS['weight'])
        assert torch.equal(model.bias, WEIGHTS['bias'])

    def test_home_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv('HOME', str(tmp_path))
        torch.save(WEIGHTS, tmp_path / 'weights.pth')
        assert torch.equal(load_from_local('~/weights.pth')['bias'], WEIGHTS['bias'])


class TestBrokenFiles:
    @pytest.mark.parametrize('zipped', [True, False])
    @pytest.mark.parametrize('share', [0.001, 0.05, 0.3, 0.5, 0.7, 0.9, 0.99])
    def test_truncated_pth(self, tmp_path, zipped, share):
        """As left by an interrupted download or a full disk."""
        file = tmp_path / 'cut.pth'
        content = torch_bytes(mmengine_checkpoint(), zipped)
        file.write_bytes(content[: int(share * len(content))])
        with pytest.raises(CheckpointError) as info:
            load_from_local(str(file))
        assert str(info.value).startswith(f'checkpoint {file} is ')
        assert len(str(info.value).splitlines()) == 1

    @pytest.mark.parametrize('share', [0.0, 0.02, 0.5, 0.99])
    def test_truncated_safetensors(self, tmp_path, share):
        file = tmp_path / 'cut.safetensors'
        save_file(WEIGHTS, file)
        content = file.read_bytes()
        file.write_bytes(content[: int(share * len(content))])
        with pytest.raises(
            CheckpointError, match=r'cut\.safetensors is truncated or no checkpoint'
        ):
            load_from_local(str(file))

    @pytest.mark.parametrize(
        'content',
        [
            b'',
            b'hello world\n',  # opcodes of pickle: KeyError
            b'version https://git-lfs.github.com/spec/v1\n',
            b'<!DOCTYPE html><html></html>',
            b'\x80',
            b'\x80\x02X\x03',  # struct.error
            b'\x80\x02a',  # IndexError
            bytes(range(256)),
            pickle.dumps(dict(a=1), protocol=2),
        ],
        ids=['empty', 'text', 'git lfs', 'html', 'one byte', 'cut', 'no stack', 'bytes', 'pickle'],
    )
    def test_other_files(self, tmp_path, content):
        file = tmp_path / 'other.pth'
        file.write_bytes(content)
        with pytest.raises(CheckpointError) as info:
            load_from_local(str(file))
        assert f'checkpoint {file} is' in str(info.value)
        assert 'no checkpoint' in str(info.value)
        assert len(str(info.value).splitlines()) == 1

    def test_missing_file(self, tmp_path):
        said = {
            tmp_path / 'missing.pth': 'does not exist',
            tmp_path: 'is a folder: name a file in it',
        }
        for missing, what in said.items():
            with pytest.raises(FileNotFoundError, match=f'^checkpoint {missing} {what}$'):
                CheckpointLoader.load_checkpoint(str(missing))

    @pytest.mark.parametrize('content', [[WEIGHTS], WEIGHTS['bias'], 3])
    def test_other_content(self, tmp_path, content):
        file = tmp_path / 'list.pth'
        torch.save(content, file)
        kind = type(content).__name__
        with pytest.raises(CheckpointError, match=rf'list\.pth holds a {kind} instead of a state'):
            load_from_local(str(file))

    def test_no_permission_is_not_called_damage(self, tmp_path, monkeypatch):
        torch.save(WEIGHTS, tmp_path / 'closed.pth')

        def deny(*args, **kwargs):
            raise PermissionError(13, 'Permission denied', 'closed.pth')

        monkeypatch.setattr(torch, 'load', deny)
        with pytest.raises(PermissionError):
            load_from_local(str(tmp_path / 'closed.pth'))


class TestHTTP:
    def test_downloads_once(self, web, hub):
        address, requests = web.address, web.requests
        web.contents['/vit.pth?raw=1'] = torch_bytes(WEIGHTS)
        for _ in range(2):
            loaded = CheckpointLoader.load_checkpoint(
                f'{address}/vit.pth?raw=1', map_location='cpu'
            )
            assert torch.equal(loaded['weight'], WEIGHTS['weight'])
        assert requests == ['/vit.pth?raw=1']
        (file,) = hub.rglob('*.*')
        assert file.name == 'vit.pth' and file.read_bytes() == web.contents['/vit.pth?raw=1']

    def test_hash_in_the_name_is_checked(self, web, hub):
        address = web.address
        digest = hashlib.sha256(content := torch_bytes(WEIGHTS)).hexdigest()
        right, wrong = f'vit-{digest[:8]}.pth', 'vit-01234567.pth'
        for name in (right, wrong):
            web.contents[f'/{name}'] = content
        assert CheckpointLoader.load_checkpoint(f'{address}/{right}').keys() == WEIGHTS.keys()
        with pytest.raises(CheckpointError, match=rf'{address}/{wrong} cannot be.*"01234567"'):
            CheckpointLoader.load_checkpoint(f'{address}/{wrong}')
        assert [path.name for path in hub.rglob('*.*')] == [right]

    @pytest.mark.parametrize('name', ['swin-b.pth', 'vit-384.pth', 'deit-.pth'])
    def test_name_that_only_looks_like_a_hash(self, web, hub, name):
        address = web.address
        web.contents[f'/{name}'] = torch_bytes(WEIGHTS)
        assert CheckpointLoader.load_checkpoint(f'{address}/{name}').keys() == WEIGHTS.keys()

    def test_safetensors(self, web, hub):
        address = web.address
        web.contents['/vit.safetensors'] = safetensors.torch.save(WEIGHTS)
        loaded = CheckpointLoader.load_checkpoint(f'{address}/vit.safetensors')
        assert torch.equal(loaded['state_dict']['bias'], WEIGHTS['bias'])

    def test_missing_file(self, web, hub):
        address = web.address
        with pytest.raises(CheckpointError, match=rf'{address}/none\.pth cannot be .*404'):
            CheckpointLoader.load_checkpoint(f'{address}/none.pth')
        assert not hub.exists()

    @pytest.mark.parametrize('scheme', ['', 'torchvision://', 'open-mmlab://', 'mmcls://'])
    def test_every_way_refuses(self, web, hub, tmp_path, monkeypatch, scheme):
        """mmengine's model zoos too."""
        address, requests = web.address, web.requests
        evil = dict(WEIGHTS, evil=Proof(os.mkdir, str(tmp_path / 'proof')))
        web.contents['/a.pth'] = torch_bytes(evil)
        zoo = {'a': f'{address}/a.pth'}
        for name in ('get_torchvision_models', 'get_external_models', 'get_mmcls_models'):
            monkeypatch.setattr(mmengine.runner.checkpoint, name, lambda: zoo)
        with pytest.raises(CheckpointError, match='is refused'):
            CheckpointLoader.load_checkpoint(f'{scheme}a' if scheme else zoo['a'])
        assert requests == ['/a.pth']
        assert not (tmp_path / 'proof').exists()

    @pytest.mark.parametrize('scheme', ['torchvision', 'open-mmlab', 'mmcls', 'modelzoo'])
    def test_a_name_that_a_zoo_lacks(self, scheme):
        with pytest.raises(CheckpointError, match=f"^{scheme}://no: the model zoo has no 'no'; w"):
            CheckpointLoader.load_checkpoint(f'{scheme}://no')

    def test_every_process_finds_the_file(self, web, hub, monkeypatch):
        """Process 0 downloads before the others look; other machines download it again."""
        address, requests = web.address, web.requests
        web.contents['/vit.pth'] = torch_bytes(WEIGHTS)
        url, seen = f'{address}/vit.pth', []
        monkeypatch.setattr('toast_mm.checkpoint.io.barrier', lambda: seen.append(list(requests)))
        monkeypatch.setattr('toast_mm.checkpoint.io.get_rank', lambda: 1)
        assert CheckpointLoader.load_checkpoint(url).keys() == WEIGHTS.keys()
        assert seen == [[]] and requests == ['/vit.pth']

        next(hub.rglob('vit.pth')).unlink()
        monkeypatch.setattr('toast_mm.checkpoint.io.get_rank', lambda: 0)
        assert CheckpointLoader.load_checkpoint(url).keys() == WEIGHTS.keys()
        assert seen[1:] == [['/vit.pth'] * 2] and requests == ['/vit.pth'] * 2


class TestPackage:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        """Replace the folder of the package that holds its checkpoints."""
        monkeypatch.setattr('toast_mm.checkpoint.io.WEIGHTS', tmp_path)
        return tmp_path

    def test_reads_a_file_by_its_name(self, folder):
        save_file(WEIGHTS, folder / 'vit.safetensors', {'key': 'value'})
        for map_location in (None, 'cpu'):
            loaded = CheckpointLoader.load_checkpoint('toast_mm://vit.safetensors', map_location)
            assert loaded['meta'] == {'key': 'value'}
            assert torch.equal(loaded['state_dict']['weight'], WEIGHTS['weight'])

    def test_map_location_is_handed_on(self, folder, monkeypatch):
        (folder / 'vit.safetensors').touch()
        given = []
        monkeypatch.setattr(
            'toast_mm.checkpoint.io.load_from_local', lambda *args: given.append(args)
        )
        CheckpointLoader.load_checkpoint('toast_mm://vit.safetensors', 'meta')
        assert given == [(str(folder / 'vit.safetensors'), 'meta')]

    def test_unknown_name(self, folder):
        for name in ('b.safetensors', 'a.safetensors', 'notes.txt'):
            (folder / name).touch()
        with pytest.raises(CheckpointError) as info:
            CheckpointLoader.load_checkpoint('toast_mm://c.safetensors')
        assert str(info.value) == (
            'toast_mm://c.safetensors does not come with toast_mm; there are: '
            'toast_mm://a.safetensors, toast_mm://b.safetensors'
        )

    def test_no_weights_at_all(self, folder):
        with pytest.raises(CheckpointError, match=r'toast_mm; there are: none$'):
            CheckpointLoader.load_checkpoint('toast_mm://a.safetensors')

    def test_folder_lies_in_the_package(self):
        assert Path(toast_mm.__file__).parent / 'weights' == toast_mm.checkpoint.WEIGHTS


class TestCheckFit:
    EXPECTED = {'cls_token': torch.zeros(1, 1, 4), 'ln.weight': torch.zeros(4)}

    def message(self, given):
        with pytest.raises(CheckpointError) as info:
            check_fit(self.EXPECTED, given, 'backbone')
        return str(info.value)

    def test_fit(self):
        check_fit(self.EXPECTED, dict(self.EXPECTED, more=torch.zeros(1)), 'backbone')

    def test_missing(self):
        assert self.message({'ln.weight': torch.zeros(4)}) == (
            'the checkpoint covers 1 of 2 tensors of the backbone; missing: cls_token'
        )

    def test_other_shape(self):
        given = {'cls_token': torch.zeros(1, 1, 3), 'ln.weight': torch.zeros(4, 1)}
        assert self.message(given) == (
            'the checkpoint covers 0 of 2 tensors of the backbone; of another shape: '
            'cls_token (1, 1, 3) instead of (1, 1, 4), ln.weight (4, 1) instead of (4,)'
        )

    def test_missing_and_other_shape(self):
        assert self.message({'ln.weight': torch.zeros(5)}) == (
            'the checkpoint covers 0 of 2 tensors of the backbone; missing: cls_token; '
            'of another shape: ln.weight (5,) instead of (4,)'
        )

    def test_some_under_another_prefix(self):
        """No advice if the other prefix would lose tensors that fit."""
        given = {'ln.weight': torch.zeros(4), 'teacher.cls_token': torch.zeros(1, 1, 4)}
        assert self.message(given).endswith('missing: cls_token')

    @pytest.mark.parametrize('name', ['head.weight', 'dist_cls_token'])
    def test_no_other_prefix(self, name):
        assert self.message({name: torch.zeros(1)}).endswith('missing: cls_token, ln.weight')


def test_the_safe_list_survives_contexts_of_others(tmp_path):
    torch.save({'loss': HistoryBuffer([0.5], [1])}, tmp_path / 'log.pth')
    load_from_local(str(tmp_path / 'log.pth'))
    with torch.serialization.safe_globals([HistoryBuffer, np.dtype, np.ndarray]):
        pass  # torch forgets these when the context ends
    assert load_from_local(str(tmp_path / 'log.pth'))['loss'].current() == 0.5


class TestManners:
    """Effects of importing the package on other code."""

    @pytest.fixture
    def original(self):
        """mmengine's readers without the package."""
        path = mmengine.runner.checkpoint.__file__
        spec = importlib.util.spec_from_file_location('original', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def test_readers_take_what_those_of_mmengine_take(self, original):
        for prefix, loader in original.CheckpointLoader._schemes.items():
            ours = inspect.signature(
                CheckpointLoader._schemes[prefix], follow_wrapped=False
            ).parameters
            theirs = inspect.signature(loader).parameters
            if 'kwargs' in ours:  # handed on
                assert CheckpointLoader._schemes[prefix].__wrapped__.__name__ == loader.__name__
                continue
            assert list(ours) == list(theirs), prefix
            for name, parameter in theirs.items():
                assert ours[name].kind == parameter.kind
                assert parameter.default in (ours[name].default, parameter.empty)
        names = ['load_from_http', 'load_from_local', '_load_checkpoint']
        if hasattr(original, '_safe_torch_load'):  # the OneDL build's
            names.append('_safe_torch_load')
        for name in names:
            ours = inspect.signature(getattr(mmengine.runner.checkpoint, name)).parameters
            assert list(ours) == list(inspect.signature(getattr(original, name)).parameters)

    def test_map_location(self, tmp_path):
        torch.save(WEIGHTS, tmp_path / 'a.pth')
        save_file(WEIGHTS, tmp_path / 'a.safetensors')
        for place in ('meta', torch.device('meta'), {'cpu': 'meta'}):
            for name in ('a.pth', 'a.safetensors'):
                loaded = load_from_local(str(tmp_path / name), place)
                assert loaded.get('state_dict', loaded)['bias'].device.type == 'meta'
        for name in ('a.pth', 'a.safetensors'):
            loaded = load_from_local(str(tmp_path / name), lambda storage, place: storage)
            assert torch.equal(loaded.get('state_dict', loaded)['bias'], WEIGHTS['bias'])


class TestAdvice:
    """PyTorch's errors advise to run the code of a file; ours must not."""

    @pytest.mark.parametrize(
        'kind', ['zeros', 'all zeros', 'TorchScript', 'protocol 4', 'object', 'old numpy']
    )
    def test_it_does_not_reach_the_user(self, tmp_path, kind):
        file = tmp_path / 'a.pth'
        if kind == 'zeros':
            content = torch_bytes(WEIGHTS)
            file.write_bytes(content[:64] + bytes(len(content) - 64))
        elif kind == 'all zeros':
            file.write_bytes(bytes(5000))
        elif kind == 'TorchScript':
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                torch.jit.script(nn.Linear(3, 2)).save(file)
        elif kind == 'protocol 4':
            torch.save(dict(WEIGHTS, a={1, 2}), file, pickle_protocol=4)
        elif kind == 'object':
            torch.save(dict(WEIGHTS, a=PlainClass()), file)
        else:
            file.write_bytes(pickle.dumps(dict(a=np.zeros(3)), protocol=2))
        with pytest.raises(CheckpointError) as info:
            load_from_local(str(file))
        shown = ''.join(traceback.format_exception(info.value))
        shown = shown[shown.index('CheckpointError: ') :]
        assert 'weights_only' not in str(info.value) and 'weights_only' not in shown
        if 'zeros' in kind:
            assert 'trust' not in str(info.value)
        assert info.value.__cause__ is None and info.value.__suppress_context__
        assert f'checkpoint {file} ' in str(info.value) and len(str(info.value).splitlines()) == 1


@pytest.mark.parametrize(
    ('content', 'sentence'),
    [
        (dict(state_dict=None), 'state_dict is a NoneType instead of a dict of tensors by name'),
        (dict(state_dict=[1]), 'state_dict is a list'),
        (dict(state_dict={0: 1}), 'state_dict has the key 0, which is no name'),
        (dict(state_dict={}, meta=7), 'meta is a int instead of a dict'),
        (
            dict(state_dict={}, meta=dict(dataset_meta=[1])),
            r'dataset_meta=\[1\] is no dict in which',
        ),
        (
            dict(state_dict={}, meta=dict(dataset_meta=dict(classes=3))),
            "dataset_meta={'classes': 3}",
        ),
    ],
)
def test_parts_of_another_form(tmp_path, content, sentence):
    path = str(tmp_path / 'odd.pth')
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf'odd\.pth has another form .*: {sentence}'):
        load_from_local(path)
    if 'dataset_meta' in sentence:
        path = str(tmp_path / 'odd.safetensors')
        notes = {'dataset_meta': json.dumps(content['meta']['dataset_meta'])}
        save_file(WEIGHTS, path, notes)
        with pytest.raises(CheckpointError, match=rf'odd\.safetensors has another .*: {sentence}'):
            load_from_local(path)
