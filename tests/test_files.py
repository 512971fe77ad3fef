import builtins
import errno
import json
import logging
import os
import pickle
import stat
import struct

import mmengine
import pytest
import torch

from toast_mm import files
from toast_mm.checkpoint import load_from_local
from toast_mm.files import (
    WriteError,
    atomic_write,
    naming_files,
    save_safetensors,
    write_atomically,
)

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
TENSORS = {
    'b': torch.arange(3.0),
    'a': torch.tensor([[1, 2], [3, 4]]).t(),
    'half': torch.ones(1).half(),
}


@pytest.fixture(params=[None, 'former content'])
def target(request, tmp_path):
    """A file to write, existing or not; no temporary file may remain."""
    path = tmp_path / 'weights.safetensors'
    if request.param:
        path.write_text(request.param)
    yield path, request.param
    assert set(tmp_path.iterdir()) <= {path}


def content(path) -> str | None:
    return path.read_text() if path.exists() else None


class TestWholeFile:
    @pytest.mark.parametrize('name', ['a.pth', 'a.b.safetensors'])
    def test_temporary_name_has_the_same_folder_and_suffix(self, tmp_path, name):
        path = tmp_path / name
        with atomic_write(str(path)) as partial:
            assert os.path.dirname(partial) == str(tmp_path)
            assert partial != str(path)
            assert os.path.splitext(partial)[1] == path.suffix
            with open(partial, 'w') as file:
                file.write('content')
            assert not path.exists()
        assert path.read_text() == 'content'
        assert list(tmp_path.iterdir()) == [path]

    def test_replaces_a_former_file_at_the_end(self, target):
        path, former = target
        with atomic_write(str(path)) as partial:
            with open(partial, 'w') as file:
                file.write('new')
            assert content(path) == former
        assert content(path) == 'new'

    @pytest.mark.parametrize(
        'error',
        [
            FULL,
            RuntimeError('PytorchStreamWriter failed writing file data.pkl'),
            RuntimeError('Parent directory absent does not exist.'),
        ],
    )
    def test_what_stops_the_writing(self, target, error):
        path, former = target
        with pytest.raises(WriteError) as info, atomic_write(str(path)) as partial:
            with open(partial, 'w') as file:
                file.write('half')
            raise error
        assert str(info.value) == f'{path} cannot be written: {error}'
        assert info.value.__cause__ is error
        assert isinstance(info.value, OSError)
        assert content(path) == former

    @pytest.mark.parametrize('error', [KeyboardInterrupt, SystemExit, KeyError, RuntimeError])
    def test_what_has_another_reason_stays_what_it_is(self, target, error):
        path, former = target
        with pytest.raises(error), atomic_write(str(path)) as partial:
            with open(partial, 'w') as file:
                file.write('half')
            raise error
        assert content(path) == former

    def test_a_failure_while_renaming(self, target, monkeypatch):
        path, former = target

        def fail(*args):
            raise FULL

        monkeypatch.setattr(os, 'replace', fail)
        with (
            pytest.raises(WriteError, match='No space left'),
            atomic_write(str(path)) as partial,
            open(partial, 'w') as file,
        ):
            file.write('whole')
        assert content(path) == former

    def test_no_such_folder(self, tmp_path):
        path = tmp_path / 'none' / 'a.pth'
        sentence = rf'^{path} cannot be written: .*No such file'
        with (
            pytest.raises(WriteError, match=sentence),
            atomic_write(str(path)) as partial,
            open(partial, 'w'),
        ):
            pass

    def test_nothing_was_written(self, target):
        path, former = target
        sentence = r'cannot be written: .*No such file'
        with pytest.raises(WriteError, match=sentence), atomic_write(str(path)):
            pass
        assert content(path) == former


class TestWriters:
    def test_two_at_once_are_both_whole(self, tmp_path):
        path = str(tmp_path / 'a.pth')
        with atomic_write(path) as one, atomic_write(path) as other:
            assert one != other
            for partial, text in ((one, 'one'), (other, 'other')):
                with open(partial, 'w') as file:
                    file.write(text)
        assert (tmp_path / 'a.pth').read_text() == 'one'  # the last that ended
        assert os.listdir(tmp_path) == ['a.pth']

    def test_leftovers_of_a_killed_writer_go_and_others_stay(self, tmp_path, monkeypatch):
        (tmp_path / 'my.partial-notes.txt').touch()
        with monkeypatch.context() as patch:  # a process of the same number, in a former container
            patch.setattr(files, '_PROCESS', '0' * 8)
            dead = files._partial_name(str(tmp_path / 'iter_5.pth'))
            patch.setattr(os, 'getpid', lambda: 2**22 + 1)  # beyond the numbers of processes
            gone = files._partial_name(str(tmp_path / 'iter_6.pth'))
            patch.setattr(os, 'getpid', os.getppid)
            at_work = files._partial_name(str(tmp_path / 'iter_7.pth'))
            patch.setattr(files, '_HOST', 'f' * 8)
            elsewhere, old = (files._partial_name(str(tmp_path / f'iter_{n}.pth')) for n in (8, 9))
        for path in (dead, gone, at_work, elsewhere, old):
            open(path, 'w').close()
        os.utime(old, (0, 0))
        write_atomically(b'content', str(tmp_path / 'a.pth'))
        assert {*map(str, tmp_path.iterdir())} == {
            at_work,
            elsewhere,
            str(tmp_path / 'a.pth'),
            str(tmp_path / 'my.partial-notes.txt'),
        }

    def test_content_is_on_the_disk_before_it_has_its_name(self, tmp_path, monkeypatch):
        events = []
        for name in ('fsync', 'replace'):
            original = getattr(os, name)

            def note(*args, name=name, original=original):
                events.append(name)
                return original(*args)

            monkeypatch.setattr(os, name, note)
        write_atomically(b'content', str(tmp_path / 'a.pth'))
        assert events == ['fsync', 'replace', 'fsync']

    def test_a_device_is_no_file_to_replace(self):
        with pytest.raises(WriteError, match=r'^/dev/full cannot be written: .*No space left'):
            write_atomically(b'content', '/dev/full')
        write_atomically(b'content', '/dev/null')
        assert stat.S_ISCHR(os.stat('/dev/null').st_mode)


def text(path: str) -> None:
    with open(path, 'w') as file:
        file.write('content')


def line(path: str) -> None:
    with open(path, 'a+') as file:
        file.write('content')


def pickled(path: str) -> None:
    with open(path, 'wb') as file:
        pickle.dump('content', file)


def logged(path: str) -> None:
    """Log as mmengine does after the initialisation of weights."""
    handler = logging.FileHandler(path)
    handler.stream.write('content')
    handler.stream.flush()


class TestNamingFiles:
    @pytest.mark.parametrize(
        ('write', 'name', 'left'),
        [
            (text, 'a.txt', None),
            (line, 'a.txt', 'former' + 'con'),
            (pickled, 'a.pkl', None),
            (logged, 'a.log', 'former' + 'con'),
            (lambda path: mmengine.dump([1.0] * 9, path), 'a.json', None),
        ],
    )
    def test_a_full_disk(self, tmp_path, full_disk, write, name, left):
        path = tmp_path / name
        path.write_text('former')
        full_disk(name)
        with pytest.raises(WriteError) as info, naming_files():
            write(str(path))
        assert str(info.value) == f'{path} cannot be written: {FULL}'
        assert content(path) == left

    @pytest.mark.parametrize(
        'error',
        [
            ConnectionResetError(errno.ECONNRESET, 'by peer'),
            OSError(errno.ENOSPC, 'No space left', '/another/file'),
            WriteError('a sentence'),
            OSError('without a number'),
        ],
    )
    def test_what_is_not_of_the_open_file_stays_what_it_is(self, tmp_path, error):
        with (
            pytest.raises(type(error)) as info,
            naming_files(),
            open(tmp_path / 'log', 'w') as log,
        ):
            log.write('content')
            raise error
        assert info.value is error
        assert (tmp_path / 'log').read_text() == 'content'

    def test_no_file_is_open(self):
        @naming_files()
        def fail():
            raise FULL

        with pytest.raises(OSError) as info:
            fail()
        assert info.value is FULL


class TestSaveSafetensors:
    def test_tensors_and_metadata_come_back(self, tmp_path):
        path = str(tmp_path / 'a.safetensors')
        scale = torch.nn.Parameter(torch.ones(2))
        save_safetensors({**TENSORS, 'scale': scale}, path, {'route': '{}'})
        loaded = load_from_local(path)
        assert loaded['meta'] == {'route': '{}'}
        assert loaded['state_dict'].keys() == {*TENSORS, 'scale'}
        for name, tensor in {**TENSORS, 'scale': scale.detach()}.items():
            assert loaded['state_dict'][name].dtype == tensor.dtype
            assert torch.equal(loaded['state_dict'][name], tensor)

    def test_the_format_is_that_of_safetensors(self, tmp_path):
        """Length of a JSON header, the header, and numbers, little end first."""
        path = tmp_path / 'a.safetensors'
        save_safetensors({'a': torch.tensor([[1.0, 2.0]])}, str(path), {'key': 'value'})
        raw = path.read_bytes()
        (length,) = struct.unpack('<Q', raw[:8])
        header = json.loads(raw[8 : 8 + length])
        assert header == {
            '__metadata__': {'key': 'value'},
            'a': {'dtype': 'F32', 'shape': [1, 2], 'data_offsets': [0, 8]},
        }
        assert raw[8 + length :] == struct.pack('<2f', 1, 2)

    def test_permissions_are_those_of_every_file(self, tmp_path):
        (tmp_path / 'plain').touch()
        save_safetensors(TENSORS, str(tmp_path / 'a.safetensors'), {})
        modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()]
        assert modes[0] == modes[1]

    @pytest.mark.parametrize('error', [FULL, KeyboardInterrupt()])
    def test_interrupted_in_the_middle(self, target, monkeypatch, error):
        path, former = target
        real_open = builtins.open

        def half_open(*args, **kwargs):
            file = real_open(*args, **kwargs)
            write = file.write

            class Half:
                def __enter__(self):
                    return self

                def __exit__(self, *_):
                    file.close()

                def write(self, content):
                    write(content[: len(content) // 2])
                    raise error

            return Half()

        with monkeypatch.context() as patch:
            patch.setattr(builtins, 'open', half_open)
            with pytest.raises(WriteError if error is FULL else KeyboardInterrupt) as info:
                save_safetensors(TENSORS, str(path), {})
        assert content(path) == former
        if error is FULL:
            assert str(info.value).startswith(f'{path} cannot be written: ')
            assert 'No space left on device' in str(info.value)

    def test_no_such_folder(self, tmp_path):
        path = tmp_path / 'none' / 'a.safetensors'
        with pytest.raises(WriteError, match=rf'^{path} cannot be written: .*No such file'):
            save_safetensors(TENSORS, str(path), {})
