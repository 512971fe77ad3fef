"""Data sets in the layouts and encodings of the real ones, on images made here."""

import builtins
import errno
import gc
import hashlib
import http.server
import io
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from extras import is_installed
from huggingface_hub import constants, file_download
from mmengine.registry import DefaultScope
from PIL import Image

ROOT = Path(__file__).parents[1]


def pytest_configure() -> None:
    """Let programs that tests start end by Ctrl-C, which they ignore in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the parameters that are methods of Hugging Face peft where this extra is missing."""
    if is_installed('peft'):
        return
    skip = pytest.mark.skip(reason='needs the extra: pip install "toast_mm[peft]"')
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, 'callspec') else ()
        for value in parameters:
            names = value if isinstance(value, tuple) else (value,)
            if any(isinstance(name, str) and name in ('peft', 'dora') for name in names):
                item.add_marker(skip)


@dataclass
class Web:
    """A web server: contents by path, its address, and the paths that were requested."""

    contents: dict[str, bytes] = field(default_factory=dict)
    address: str = ''
    requests: list[str] = field(default_factory=list)


def scene(rng: np.random.Generator, labels: list[int], size: tuple[int, int] = (64, 48)):
    """Image of rectangles on a textured background, and its mask of the given labels."""
    width, height = size
    image = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    mask = np.full((height, width), labels[0], dtype=np.uint8)
    for label in labels[1:]:
        x, y = rng.integers(0, width - 20), rng.integers(0, height - 16)
        image[y : y + 16, x : x + 20] = 60 + np.array([label * 37, label * 61, label * 89]) % 190
        mask[y : y + 16, x : x + 20] = label
    return Image.fromarray(image), mask


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def pytest_collection_finish() -> None:
    """Freeze what the imports made: mmengine's data sets collect garbage, which takes a second."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope='session')
def unformatted_configs():
    """mmengine formats the config with yapf at every start: most of the time of a short run."""
    with mock.patch('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, False)):
        yield


@pytest.fixture(scope='module', autouse=True)
def no_former_scope() -> None:
    """Reset the default scope, which mmengine keeps from runs of other test files."""
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session')
def ade20k(tmp_path_factory) -> Path:
    """ADEChallengeData2016: gray PNGs, 0 = other, 1..150."""
    root = tmp_path_factory.mktemp('ade') / 'ADEChallengeData2016'
    rng = np.random.default_rng(0)
    for split, number in (('training', 6), ('validation', 2)):
        for index in range(number):
            image, mask = scene(rng, [0, 1 + index, 75, 150])
            save(image, root / 'images' / split / f'ADE_{index:04}.jpg')
            save(Image.fromarray(mask), root / 'annotations' / split / f'ADE_{index:04}.png')
    return root


@pytest.fixture(scope='session')
def voc12aug(tmp_path_factory) -> Path:
    """VOC2012 with SegmentationClassAug: palette PNGs, 0 = background, 255 = ignore."""
    root = tmp_path_factory.mktemp('voc') / 'VOC2012'
    rng = np.random.default_rng(1)
    palette = rng.integers(0, 256, 768, dtype=np.uint8).tobytes()
    for split, number in (('train', 3), ('aug', 3), ('val', 2)):
        annotations = 'SegmentationClassAug' if split == 'aug' else 'SegmentationClass'
        names = [f'{split}_{index}' for index in range(number)]
        for name in names:
            image, mask = scene(rng, [0, 1, 20])
            mask[:3] = 255
            paletted = Image.fromarray(mask)
            paletted.putpalette(palette)
            save(image, root / 'JPEGImages' / f'{name}.jpg')
            save(paletted, root / annotations / f'{name}.png')
        lists = root / 'ImageSets' / 'Segmentation'
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f'{split}.txt').write_text('\n'.join(names))
    return root


@pytest.fixture(scope='session')
def camvid(tmp_path_factory) -> Path:
    """CamVid in VOC's layout: gray PNGs, 0..10, 255 = void."""
    root = tmp_path_factory.mktemp('camvid')
    rng = np.random.default_rng(2)
    for split in ('train', 'val', 'test'):
        names = [f'{split}_{index}' for index in range(3)]
        for name in names:
            image, mask = scene(rng, [3, 0, 8, 10])
            mask[-2:] = 255
            save(image, root / 'JPEGImages' / f'{name}.jpg')
            save(Image.fromarray(mask), root / 'SegmentationClass' / f'{name}.png')
        lists = root / 'ImageSets' / 'Segmentation'
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f'{split}.txt').write_text('\n'.join(names))
    return root


@pytest.fixture(scope='session')
def folders(tmp_path_factory) -> Path:
    """A classification data set: one folder per class and split."""
    root = tmp_path_factory.mktemp('folders')
    rng = np.random.default_rng(3)
    for split, number in (('train', 6), ('val', 4)):
        for label in range(2):
            for index in range(number):
                image, _ = scene(rng, [0, label + 1], (40, 40))
                save(image, root / split / f'class_{label}' / f'{label}_{index}.png')
    return root


@pytest.fixture(scope='session')
def cub(tmp_path_factory) -> Path:
    """Two species in the layout of CUB-200-2011: twelve images to train on, four to test on."""
    root = tmp_path_factory.mktemp('cub')
    rng = np.random.default_rng(4)
    lists: dict[str, list[str]] = {'images': [], 'image_class_labels': [], 'train_test_split': []}
    for number in range(1, 17):
        label = 1 + number % 2
        path = root / 'images' / f'{label:03}.bird' / f'{number}.jpg'
        save(Image.fromarray(rng.integers(0, 256, (80, 70, 3), dtype=np.uint8)), path)
        lists['images'].append(f'{number} {path.relative_to(root / "images")}')
        lists['image_class_labels'].append(f'{number} {label}')
        lists['train_test_split'].append(f'{number} {int(number <= 12)}')
    for file, lines in lists.items():
        (root / f'{file}.txt').write_text('\n'.join(lines))
    return root


@pytest.fixture
def web() -> Iterator[Web]:
    """A web server; for a path in ``short`` it announces a wrong, larger size."""
    web = Web()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.requests.append(self.path)
            content = web.contents.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header('Content-Length', str(len(content) + 10 * ('short' in self.path)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        web.address = f'http://127.0.0.1:{httpd.server_port}'
        thread = threading.Thread(target=httpd.serve_forever, args=[0.01])
        thread.start()
        yield web
        httpd.shutdown()
        thread.join()


@dataclass
class Hub:
    """Repositories by name, what each commit of them holds, and why some are refused."""

    files: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    address: str = ''

    def add(self, repository: str, **files: bytes) -> str:
        """Add a commit of files, whose suffix is ``.safetensors``, and give its name."""
        commits = self.files.setdefault(repository, {})
        commit = f'{len(commits):040x}'
        commits[commit] = {f'{name}.safetensors': content for name, content in files.items()}
        return commit


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """A Hugging Face Hub with an empty cache."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, status: int, content: bytes = b'', **headers: str) -> None:
            self.send_response(status)
            self.send_header('Content-Length', str(len(content)))
            for name, value in headers.items():
                self.send_header(name.replace('_', '-'), value)
            self.end_headers()
            if self.command == 'GET':
                self.wfile.write(content)

        def do_GET(self) -> None:
            hub.requests.append(f'{self.command} {self.path}')
            parts = self.path.split('?')[0].strip('/').split('/')
            listed = parts[:2] == ['api', 'models']
            parts = parts[2 * listed :]
            repository = '/'.join(parts[:2])
            refusal = hub.refusals.get(repository)
            commits = hub.files.get(repository)
            if refusal or commits is None:
                self.answer(403 if refusal else 404, X_Error_Code=refusal or 'RepoNotFound')
                return
            commit = [*commits][-1] if parts[3] == 'main' else parts[3]
            files = commits.get(commit)
            if files is None:
                self.answer(404, X_Error_Code='RevisionNotFound')
            elif listed:
                rows = [dict(type='file', path=f, size=len(c), oid='0') for f, c in files.items()]
                self.answer(200, json.dumps(rows).encode(), Content_Type='application/json')
            elif (name := '/'.join(parts[4:])) not in files:
                self.answer(404, X_Error_Code='EntryNotFound', X_Repo_Commit=commit)
            else:
                tag = hashlib.sha256(files[name]).hexdigest()
                self.answer(200, files[name], ETag=f'"{tag}"', X_Repo_Commit=commit)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        hub.address = f'http://127.0.0.1:{httpd.server_port}'
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.address)
        for module in (constants, file_download):  # the second before huggingface_hub 1.0
            monkeypatch.setattr(module, 'HUGGINGFACE_CO_URL_TEMPLATE', template, raising=False)
        monkeypatch.setattr(constants, 'ENDPOINT', hub.address)
        monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
        thread = threading.Thread(target=httpd.serve_forever, args=[0.01])
        thread.start()
        yield hub
        httpd.shutdown()
        thread.join()


class Full(io.FileIO):
    """A file that takes three bytes more."""

    space = 3

    def write(self, content) -> int:
        self.space -= super().write(bytes(content)[: self.space])
        del self  # where C writes, no frame of the error knows the file
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk(monkeypatch):
    """Simulate a full disk for files that match a pattern: ``full_disk('*.json')``."""

    def fill(pattern: str) -> None:
        def limited(path, mode='r', *args, original=builtins.open, **kwargs):
            writes = set(mode) & {*'wax+'} and isinstance(path, (str, Path))
            if not writes or not fnmatch(os.path.basename(path), pattern):
                return original(path, mode, *args, **kwargs)
            kind = io.BufferedRandom if '+' in mode else io.BufferedWriter
            file = kind(Full(path, mode.replace('b', '')))
            if 'b' not in mode:
                file = io.TextIOWrapper(file, encoding='utf-8')
                file.mode = mode
            return file

        for module in (builtins, io):  # pathlib's
            monkeypatch.setattr(module, 'open', limited)

    return fill


@pytest.fixture(scope='session')
def unused_tcp_port_factory() -> Callable[[], int]:
    """Finds a port that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            return probe.getsockname()[1]

    return find


@pytest.fixture
def unused_tcp_port(unused_tcp_port_factory) -> int:
    return unused_tcp_port_factory()
