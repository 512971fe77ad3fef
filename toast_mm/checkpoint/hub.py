"""Files of the Hugging Face Hub: ``hf://owner/name[@revision][/file.safetensors]``."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .downloads import DownloadError

PREFIX = 'hf://'
DEFAULT_FILE = 'model.safetensors'  # what timm and transformers save
_FORM = re.compile(r'hf://([\w.-]+/[\w.-]+)(?:@([^/@]+))?(?:/(.+))?')
_AT_A_COMMIT = re.compile(r'(?<=^hf://)([^@]+)@[0-9a-f]{40}(?=/|$)')


class HubFile(NamedTuple):
    """A file of a repository.

    Attributes:
        repository: ``owner/name``.
        revision: Branch, tag or commit; None for the default branch.
        file: Path of the file in the repository.
    """

    repository: str
    revision: str | None
    file: str

    @property
    def page(self) -> str:
        """Address of the repository."""
        return f'{constants.ENDPOINT}/{self.repository}'


def parse(name: str) -> HubFile:
    """Split the name of a file into its parts.

    Raises:
        DownloadError: The name has another form.
    """
    form = _FORM.fullmatch(name)
    if form is None:
        raise DownloadError(
            f'{name} has not the form hf://owner/name[@revision][/file.safetensors]'
        )
    return HubFile(form[1], form[2], form[3] or DEFAULT_FILE)


def download_from_hub(name: str) -> Path:
    """Return the cached path of a file of the Hub, and download the file if needed.

    Args:
        name: ``hf://owner/name[@revision][/file.safetensors]``. Without a file it is
            ``model.safetensors``.

    Raises:
        DownloadError: It is no safetensors file, there is none, access is refused, or the Hub
            cannot be reached.
    """
    wanted = parse(name)
    if not wanted.file.endswith('.safetensors'):
        raise DownloadError(
            f'{name} is refused: only .safetensors files are read from the Hugging Face Hub'
        )
    try:
        return Path(hf_hub_download(wanted.repository, wanted.file, revision=wanted.revision))
    except Exception as error:
        raise DownloadError(f'{name} {_why_not(wanted, error)}') from error


def pinned(name: str) -> str:
    """Add the current commit of its branch or tag to the name of a cached file.

    Other names, and those of files that are not in the cache, are returned as they are.
    """
    if not name.startswith(PREFIX):
        return name
    repository, revision, file = parse(name)
    path = try_to_load_from_cache(repository, file, revision=revision)
    if not isinstance(path, str):
        return name
    commit = Path(path).parents[file.count('/')].name
    return f'{PREFIX}{repository}@{commit}{"" if file == DEFAULT_FILE else f"/{file}"}'


def unpinned(name: str) -> str:
    """The name without its commit."""
    return _AT_A_COMMIT.sub(r'\1', name)


def _why_not(wanted: HubFile, error: Exception) -> str:
    """Explain why a file cannot be read, and what would be right."""
    if isinstance(error, GatedRepoError):
        return (
            f'is gated: ask for access at {wanted.page}, and log in by `hf auth login` or set '
            'HF_TOKEN'
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f'cannot be downloaded: there is no repository {wanted.page}, or it is private and '
            'needs a HF_TOKEN'
        )
    if isinstance(error, RevisionNotFoundError):
        return f'cannot be downloaded: {wanted.page} has no revision {wanted.revision}'
    if isinstance(error, LocalEntryNotFoundError):
        return (
            f'is not in the cache {constants.HF_HUB_CACHE}, and {constants.ENDPOINT} cannot be '
            f'reached ({_first_line(error.__cause__ or error)}): run `hf download '
            f'{wanted.repository} {wanted.file}` where it can, and copy its folder of the cache to '
            'this one, or name a local copy of the file instead'
        )
    if isinstance(error, EntryNotFoundError):
        return f'cannot be downloaded: {wanted.page} has no {wanted.file}{_others(wanted)}'
    return f'cannot be downloaded: {_first_line(error)}'


def _others(wanted: HubFile) -> str:
    """List the other files of the repository."""
    try:
        files = HfApi().list_repo_files(wanted.repository, revision=wanted.revision)
    except Exception:
        return ''  # the file that is not there is error enough
    safe = [file for file in files if file.endswith('.safetensors')]
    if safe:
        return f', but {", ".join(safe)}: name one behind a slash'
    pickles = [file for file in files if file.endswith(('.bin', '.pth', '.pt', '.tar', '.ckpt'))]
    there = f' ({", ".join(pickles)} would run code)' if pickles else ''
    return f' and no other safetensors file{there}: save its weights as safetensors'


def _first_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[0].splitlines()[0]
