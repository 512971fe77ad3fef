"""Files from the web, each of them downloaded once."""

from __future__ import annotations

import hashlib
import os.path as osp
import re
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote, urldefrag, urlparse
from urllib.request import Request, urlopen

import torch
from torch.hub import tqdm

from toast_mm.files import atomic_write

_CHUNK = 2**20


class DownloadError(RuntimeError):
    """A file cannot be downloaded; the message says which and why."""


def download(url: str, folder: str | None = None, progress: bool = False) -> Path:
    """Return the local path of a URL, and download the file if it is not there.

    The name alone does not tell one file from another: ``http://h/A/model.pth`` and
    ``http://h/B/model.pth`` are kept in folders of their own, which a digest of the whole URL
    names. A name that tells the digest of its content, as in ``resnet50-0676ba61.pth``, is shared
    with the other programs that use PyTorch's cache, if the content is what the name says.

    Args:
        url: Address of the file.
        folder: Cache. Defaults to None, PyTorch's: ``torch.hub.get_dir()/checkpoints``.
        progress: Whether to show a progress bar. Defaults to False.

    Raises:
        DownloadError: There is no such file, the connection broke, or the content is not that of
            the digest in the name.
        WriteError: The file cannot be written.
    """
    url = urldefrag(url).url
    cache = Path(folder or osp.join(torch.hub.get_dir(), 'checkpoints'))
    name = osp.basename(unquote(urlparse(url).path))
    name = re.sub(r'[^\w.+-]', '_', name).lstrip('.') or 'download'
    digest = re.search(r'-([a-f0-9]{8,64})\.', name)  # eight digits or more, as published
    shared = cache / name
    if digest and shared.is_file() and _sha256(shared).startswith(digest[1]):
        return shared
    path = cache / hashlib.sha256(url.encode()).hexdigest()[:16] / name
    if digest and not shared.exists():
        path = shared
    if not path.exists():
        _fetch(url, path, digest[1] if digest else '', progress)
    return path


def _fetch(url: str, path: Path, digest: str, progress: bool) -> None:
    """Download a file, whole or not at all. PyTorch's function keeps the rest of a broken download.

    Args:
        url: Address of the file.
        path: File to write.
        digest: Beginning of the SHA-256 of the content.
        progress: Whether to show a progress bar.
    """
    sha256 = hashlib.sha256()
    try:
        response = urlopen(Request(url, headers={'User-Agent': 'toast_mm'}))
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()  # the server's answer, and the connection with it
        raise DownloadError(f'{url} cannot be downloaded: {error}') from error
    path.parent.mkdir(parents=True, exist_ok=True)
    size = response.headers.get('Content-Length')
    total = int(size) if size and size.isdigit() else None
    bar = tqdm(total=total, disable=not progress, unit='B', unit_scale=True, unit_divisor=1024)
    with response, bar, atomic_write(str(path)) as partial, open(partial, 'wb') as file:
        while True:
            try:
                content = response.read(_CHUNK)
            except (OSError, HTTPException) as error:
                raise DownloadError(f'{url} cannot be downloaded: {error}') from error
            if not content:
                break
            file.write(content)
            sha256.update(content)
            bar.update(len(content))
        if total is not None and file.tell() != total:
            raise DownloadError(
                f'{url} cannot be downloaded: the connection ended after {file.tell()} of {total} '
                'bytes'
            )
        if not sha256.hexdigest().startswith(digest):
            raise DownloadError(
                f'{url} cannot be downloaded: its name says that its SHA-256 begins with '
                f'"{digest}", but it is "{sha256.hexdigest()}"'
            )


def _sha256(path: Path) -> str:
    sha256 = hashlib.sha256()
    with path.open('rb') as file:
        while content := file.read(_CHUNK):
            sha256.update(content)
    return sha256.hexdigest()
