"""Which files command lines may write."""

import os

import pytest

from toast_mm.checkpoint import WEIGHTS
from toast_mm.files import WriteError
from toast_mm.outputs import check_free


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('read', 'there'):
        (tmp_path / name).write_text(name)
    (tmp_path / 'folder').mkdir()
    os.link('read', 'hard')
    os.symlink('read', 'soft')
    os.symlink('absent', 'dead')
    os.symlink('folder', 'way')


@pytest.mark.parametrize('overwrite', [False, True])
@pytest.mark.parametrize(
    ('outputs', 'inputs', 'sentence'),
    [
        (['read'], ['read'], 'read would replace read, which is read: choose another path'),
        (['hard'], ['there', 'read'], 'hard would replace read, which is read'),
        (['soft'], ['read'], 'soft would replace read, which is read'),
        (['read'], ['soft'], 'read would replace soft, which is read'),
        (['new', 'way/../read'], ['read'], r'way/\.\./read would replace read, which is read'),
        (['absent'], ['dead'], 'absent would replace dead, which is read'),
        (
            [WEIGHTS / 'vit-1m_tinyin100.safetensors'],
            ['toast_mm://vit-1m_tinyin100.safetensors'],
            r'would replace toast_mm://vit-1m_tinyin100\.safetensors, which is read',
        ),
        (['new', 'folder/../new'], [], r'folder/\.\./new would be written twice: choose another'),
        (['folder'], [], '^folder is a folder: choose another path$'),
        (['none/new'], [], '^none/new cannot be written: none does not exist$'),
        (['there/new'], [], '^there/new cannot be written: there is no folder$'),
    ],
)
def test_errors_in_any_case(outputs, inputs, sentence, overwrite):
    with pytest.raises(WriteError, match=sentence):
        check_free(outputs, inputs, overwrite)


@pytest.mark.parametrize('output', ['there', 'soft', 'dead', 'way/../there'])
def test_overwrite(output):
    sentence = f'^{output} exists already: choose another path, or add --overwrite to replace it$'
    with pytest.raises(WriteError, match=sentence):
        check_free(['new', output], ['other'])
    check_free(['new', output], ['other'], overwrite=True)


@pytest.mark.parametrize('output', ['new', 'folder/new', '/dev/null', '/dev/full'])
def test_always_allowed(output):
    check_free([output], ['read', 'https://host/new', 's3://new', '/dev/null'])


def test_new_folders():
    check_free(['none/deep/new'], [], new_folders=True)
    with pytest.raises(WriteError, match=r'^there/deep/new cannot be written: there is no folder$'):
        check_free(['there/deep/new'], [], new_folders=True)


def test_a_folder_without_permission(monkeypatch):
    """The superuser, who may run the tests, is allowed everything."""
    monkeypatch.setattr(os, 'access', lambda path, mode: str(path) != 'folder')
    for output in ('folder/new', 'folder/none/new'):
        with pytest.raises(WriteError, match=r': folder allows no new files$'):
            check_free([output], [], new_folders=True)
    check_free(['new'], [])
