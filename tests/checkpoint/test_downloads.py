"""Downloads: which cached file belongs to which URL, and which files are not used."""

import hashlib

import pytest
import torch

from toast_mm.checkpoint import CheckpointError, load_from_http
from toast_mm.checkpoint.downloads import DownloadError, download
from toast_mm.checkpoint.io import fetch


def test_the_whole_url_tells_files_apart(web, tmp_path):
    contents, address, requests = web.contents, web.address, web.requests
    paths = [
        '/A/model.pth',
        '/B/model.pth',
        '/get?file=1&name=model.pth',
        '/get?file=2',
        '/C/m.pth/',
    ]
    for path in paths:
        contents[path] = path.encode()
    for _ in range(2):
        for path in paths:
            file = download(f'{address}{path}#part', str(tmp_path))
            assert file.read_bytes() == path.encode()
            assert tmp_path in file.parents
    assert requests == paths
    assert [download(f'{address}{path}', str(tmp_path)).name for path in paths] == [
        *('model.pth', 'model.pth', 'get', 'get', 'download')
    ]


def test_files_of_other_programs_are_not_used(web, tmp_path, monkeypatch):
    """PyTorch stores files of all URLs by their name only."""
    contents, address = web.contents, web.address
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    cache = tmp_path / 'hub' / 'checkpoints'
    cache.mkdir(parents=True)
    contents['/model.pth'] = b'right'
    (cache / 'model.pth').write_bytes(b'wrong')
    file = download(f'{address}/model.pth')
    assert file.read_bytes() == b'right' and cache in file.parents
    assert (cache / 'model.pth').read_bytes() == b'wrong'


def test_a_digest_in_the_name(web, tmp_path):
    """Such files are shared with other programs if their content has this digest."""
    contents, address, requests = web.contents, web.address, web.requests
    name = f'model-{hashlib.sha256(b"right").hexdigest()[:8]}.pth'
    contents[f'/{name}'] = b'right'
    (tmp_path / name).write_bytes(b'right')
    assert download(f'{address}/{name}', str(tmp_path)) == tmp_path / name
    assert requests == []
    (tmp_path / name).write_bytes(b'wrong')
    file = download(f'{address}/{name}', str(tmp_path))
    assert file != tmp_path / name and file.read_bytes() == b'right'
    (tmp_path / name).unlink()
    assert download(f'{address}/{name}', str(tmp_path / 'new')) == tmp_path / 'new' / name


@pytest.mark.parametrize(
    ('path', 'why'),
    [
        ('/short.pth', 'the connection ended after 100 of 110 bytes'),
        ('/model-01234567.pth', 'its SHA-256 begins with "01234567", but it is'),
        ('/none.pth', 'HTTP Error 404'),
    ],
)
def test_nothing_is_left_of_a_failure(web, tmp_path, path, why):
    contents, address = web.contents, web.address
    if 'none' not in path:
        contents[path] = bytes(100)
    for _ in range(2):
        with pytest.raises(DownloadError, match=f'^{address}{path} cannot be downloaded: .*{why}'):
            download(f'{address}{path}', str(tmp_path))
        assert not [file for file in tmp_path.rglob('*') if file.is_file()]


def test_a_name_cannot_leave_the_folder(web, tmp_path):
    contents, address = web.contents, web.address
    for path in ('/%2e%2e', '/..%2f..%2fmodel.pth', '/%2fetc%2f'):
        contents[path] = b'content'
        file = download(f'{address}{path}', str(tmp_path / 'cache'))
        assert file.resolve().is_relative_to(tmp_path / 'cache') and file.is_file()


def test_the_reader_of_checkpoints_takes_the_folder_of_its_caller(web, tmp_path):
    contents, address = web.contents, web.address
    for number, letter in enumerate('AB'):
        torch.save(dict(weight=torch.tensor(number)), tmp_path / 'model.pth')
        contents[f'/{letter}/model.pth'] = (tmp_path / 'model.pth').read_bytes()
    for number, letter in enumerate('AB'):
        url = f'{address}/{letter}/model.pth'
        loaded = load_from_http(url, map_location='cpu', model_dir=str(tmp_path / 'mine'))
        assert loaded['weight'] == number
    assert len(list((tmp_path / 'mine').rglob('model.pth'))) == 2
    with pytest.raises(CheckpointError, match='cannot be downloaded: HTTP Error 404'):
        load_from_http(f'{address}/C/model.pth', model_dir=str(tmp_path / 'mine'))


def test_fetching_without_reading(web, tmp_path, monkeypatch):
    """A file is downloaded once, whatever it holds; a path is left to its reader."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    web.contents['/model.pth'] = b'no checkpoint'
    for _ in range(2):
        fetch(f'{web.address}/model.pth')
    assert web.requests == ['/model.pth']
    fetch('no/such/file.pth')
    with pytest.raises(CheckpointError, match=r'/none\.pth cannot be downloaded: .*404'):
        fetch(f'{web.address}/none.pth')
