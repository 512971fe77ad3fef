"""The page as a visitor sees it, in headless Chromium."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from extras import is_installed
from PIL import Image

from toast_mm.apis import load

sys.path.insert(0, str(Path(__file__).parents[1] / 'tools'))
from commands import start

CHROMIUM = shutil.which('chromium') or '/usr/bin/chromium'
SWITCHES = ['--no-sandbox', '--disable-gpu', '--disable-background-networking']
SECOND = 1000  # milliseconds
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_installed('gradio'), reason='needs the extra: pip install "toast_mm[demo]"'
    ),
]
needs_browser = pytest.mark.skipif(
    not (is_installed('playwright') and Path(CHROMIUM).is_file()),
    reason='needs a browser: apt-get install chromium, and pip install playwright',
)


@contextmanager
def served(*arguments):
    """Serve a page on a free port, and end it by Ctrl-C; yields its address."""
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    process = start('python', 'tools/demo.py', *map(str, arguments), '--port', str(port))
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if 'shows the page' in line:
                break
        assert process.poll() is None, ''.join(lines)
        yield f'http://127.0.0.1:{port}'
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    # Gradio logs the error of a file that is refused, and nothing else may fail.
    assert rest.count('Traceback') == rest.count('exceptions.InvalidPathError: '), rest


@pytest.fixture(scope='module')
def address(task_folder):
    with served(task_folder, '--megabytes', '2', '--megapixels', '2') as address:
        yield address


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_only_files_of_the_page_can_be_fetched(address, task_folder):
    for path in ('/etc/passwd', task_folder / 'birds.pth', Path(__file__)):
        assert get(f'{address}/gradio_api/file={path}')[0] == 403, path
    assert get(f'{address}/gradio_api/file=http://127.0.0.1/a.png')[0] == 404
    status, page = get(address)
    assert status == 200
    assert b'"analytics_enabled":false' in page.replace(b'": ', b'":')


@pytest.mark.parametrize(
    'path, reason',
    [('http://example.com/a.png', 'Upload the picture itself.'), ('/etc/passwd', None)],
)
def test_pictures_must_be_uploaded(path, reason, address, task_folder):
    picture = dict(path=path, meta={'_type': 'gradio.FileData'})
    name = f'{task_folder.name}/birds.pth'
    body = dict(data=[picture, name, 'none'], fn_index=0, session_hash=f'test{len(path)}')
    request = urllib.request.Request(
        f'{address}/gradio_api/queue/join', json.dumps(body).encode(), method='POST'
    )
    request.add_header('content-type', 'application/json')
    urllib.request.urlopen(request, timeout=60).close()
    _, events = get(f'{address}/gradio_api/queue/data?session_hash={body["session_hash"]}')
    messages = [json.loads(line[6:]) for line in events.splitlines() if line.startswith(b'data: ')]
    (done,) = (message for message in messages if message['msg'] == 'process_completed')
    assert done['success'] is False
    assert done['output']['error'] == reason


def test_its_files_are_removed_at_the_end(task_folder, tmp_path, monkeypatch):
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    with served(task_folder):
        assert [path.name[:13] for path in tmp_path.iterdir()] == ['toast_mm_demo']
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope='module')
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page, which must call no other host and raise no error."""
    page = browser.new_page(viewport=dict(width=1280, height=1100))
    page.set_default_timeout(120 * SECOND)
    hosts, errors = set(), []
    page.on('request', lambda request: hosts.add(request.url.partition('://')[2].split('/')[0]))
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.on('console', lambda line: errors.append(line.text) if line.type == 'error' else None)
    page.goto(address)
    yield page
    page.close()
    assert hosts == {address.partition('://')[2]}
    assert errors == []


def upload(page, path):
    page.set_input_files('#picture input[type=file]', str(path))


def wait(page, element):
    """Wait until an element is there, and no longer covered by the progress of the request."""
    page.wait_for_selector(element, state='visible')
    page.wait_for_function("() => !document.body.innerText.includes('processing |')")


def choose(page, box, name):
    page.click(f'#{box} input')
    page.get_by_role('option', name=name, exact=True).click()


@needs_browser
def test_a_photograph(page, photo, task_folder, tmp_path):
    birds, streets = (f'{task_folder.name}/{name}.pth' for name in ('birds', 'streets'))
    upload(page, photo)
    wait(page, '#left-overlay')
    expected = load(task_folder / 'birds.pth', device='cpu').predict(str(photo))[0]
    assert page.inner_text('#left-title') == birds
    text = page.inner_text('#left-classes')
    assert text.split('\n')[1:2] == [expected.label]  # '<b>finch</b>' is text on the page
    for label, score in expected.top(3):
        assert label in text
        assert f'{score:.0%}' in text
    assert not page.is_visible('#left-mask')

    choose(page, 'second', streets)
    wait(page, '#right-mask')
    assert page.inner_text('#right-caption') == 'TOAST: block 2 of 0 to 5'
    labels = load(task_folder / 'streets.pth', device='cpu').predict(str(photo))[0]
    legend = page.inner_text('#right-segments')
    for name, share in labels.areas.items():
        assert f'{name} {share:.1%}' in legend

    before = page.get_attribute('#right-attention img', 'src')
    page.locator('#block input[type=number]').fill('1')
    page.locator('#block input[type=number]').press('Enter')
    for side in ('left', 'right'):
        page.wait_for_selector(f'#{side}-caption:has-text("TOAST: block 1 of 0 to 5")')
    page.wait_for_function(
        "before => document.querySelector('#right-attention img').src != before", arg=before
    )

    with page.expect_download() as download:
        page.click('#right-mask')
    assert download.value.suggested_filename == 'photo_mask.png'
    download.value.save_as(tmp_path / 'mask.png')
    with Image.open(tmp_path / 'mask.png') as mask:
        assert mask.mode == 'P'
        assert np.array_equal(mask, labels.labels)


@needs_browser
@pytest.mark.parametrize('kind', ['text', 'large'])
def test_what_is_refused(kind, page, tmp_path):
    path = tmp_path / '<i>a.png'
    if kind == 'text':
        path.write_text('no picture')
        sentence = '<i>a.png is no picture that can be read'
    else:
        Image.new('L', (2000, 1001)).save(path)
        sentence = '<i>a.png has 2000 x 1001 pixels: at most 2 million are allowed'
    upload(page, path)
    message = page.wait_for_selector('#message textarea', state='visible')
    assert message.input_value().startswith(sentence)
    assert not page.is_visible('#left-overlay')


@needs_browser
def test_a_large_file_is_not_uploaded(page, tmp_path):
    (tmp_path / 'a.png').write_bytes(bytes(2_100_000))
    upload(page, tmp_path / 'a.png')
    page.get_by_text('exceed the maximum allowed size').first.wait_for()


@needs_browser
def test_too_many_predictions(browser, task_folder, photo):
    with served(task_folder, '--per-minute', '1') as address:
        page = browser.new_page()
        page.set_default_timeout(120 * SECOND)
        page.goto(address)
        upload(page, photo)
        page.wait_for_selector('#left-overlay', state='visible')
        choose(page, 'first', f'{task_folder.name}/streets.pth')
        message = page.wait_for_selector('#message textarea', state='visible')
        assert message.input_value().startswith('1 predictions a minute are allowed: try again in')
        page.close()


@needs_browser
def test_it_ends_amid_a_prediction(browser, task_folder, photo):
    with served(task_folder) as address:
        page = browser.new_page()
        page.set_default_timeout(120 * SECOND)
        page.goto(address)
        with page.expect_response('**/queue/join*'):
            upload(page, photo)
        page.wait_for_timeout(SECOND)
    page.close()
