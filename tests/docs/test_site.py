"""The site of the documentation, built strictly, and what is in it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from doc_pages import PAGES, ROOT
from extras import is_installed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_installed('furo'), reason='needs the extra: pip install "toast_mm[docs]"'
    ),
]
PARTS = (
    *(
        'apis',
        'checkpoint',
        'conversion',
        'datasets',
        'engine',
        'evaluation',
        'inspection',
        'models',
    ),
    *('topdown', 'visualization'),
)


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp('site')
    options = ['-q', '-W', '--keep-going', '-d', folder / 'doctrees', '-c', 'docs']
    result = subprocess.run(
        [sys.executable, '-m', 'sphinx', *options, '.', folder / 'html'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''
    return folder / 'html'


class Page(HTMLParser):
    """Links, names and resources of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.resources: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or '' for name, value in attrs}
        self.names |= {values[key] for key in ('id', 'name') if key in values}
        if tag == 'a' and 'href' in values:
            self.links.append(values['href'])
        if tag in ('img', 'script') and 'src' in values:
            self.resources.append(values['src'])
        if tag == 'link' and values.get('rel') in ('stylesheet', 'preload', 'icon'):
            self.resources.append(values['href'])


@pytest.fixture(scope='module')
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob('*.html')}


def test_every_markdown_file_is_a_page(site):
    missing = [
        page for page in PAGES if not (site / page.relative_to(ROOT)).with_suffix('.html').is_file()
    ]
    assert missing == []


def test_the_address_of_the_site_leads_to_its_first_page(site):
    assert 'url=docs/index.html' in (site / 'index.html').read_text()
    assert (site / 'docs/index.html').is_file()


def test_links_lead_somewhere(pages):
    broken = []
    for path, page in pages.items():
        for link in (*page.links, *page.resources):
            parts = urlsplit(link)
            if parts.scheme or not (parts.path or parts.fragment):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages.get(target)
            if not target.exists() or (
                known and parts.fragment and unquote(parts.fragment) not in known.names
            ):
                broken.append(f'{path.name}: {link}')
    assert broken == []
    assert sum(len(page.links) for page in pages.values()) > 1000


def test_nothing_is_loaded_from_elsewhere(pages):
    resources = {link for page in pages.values() for link in page.resources}
    assert resources and not [link for link in resources if urlsplit(link).netloc]


def test_every_public_name_is_described(pages):
    described = {name for page in pages.values() for name in page.names}
    for part in PARTS:
        module = importlib.import_module(f'toast_mm.{part}')
        public = [name for name in module.__all__ if callable(getattr(module, name))]
        assert public
        assert [name for name in public if f'toast_mm.{part}.{name}' not in described] == []


def test_the_model_zoo_has_all_jobs(site, pages):
    zoo = (site / 'docs/zoo.html').read_text()
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    names = [
        model['Name']
        for file in index
        for model in yaml.safe_load((ROOT / file).read_text()).get('Models', [])
    ]
    assert len(names) > 100
    assert not [name for name in names if f'>{name}<' not in zoo]
    assert 'Top 1 Accuracy 47.1 (Cued digits)' in zoo


def test_files_are_shown(site):
    shown = (site / 'files/configs/_base_/datasets/camvid_96x96.py.html').read_text()
    assert 'data_root' in shown and '<div class="highlight' in shown
    listed = (site / 'files/configs/quickstart.html').read_text()
    assert 'toast-vit-1m_1xb32-400_digits-cued-64x64.py' in listed
