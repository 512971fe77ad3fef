"""Links between files work on a code host; that they work in the site is tested by its build."""

from urllib.parse import unquote

import pytest
from doc_pages import PAGES, ROOT, anchors, links


def test_pages_and_links_are_found():
    assert {ROOT / 'README.md', ROOT / 'docs/steering.md', ROOT / 'configs/fgvc/README.md'} <= {
        *PAGES
    }
    assert 'docs/methods.md#hugging-face-peft' in {*links(ROOT / 'README.md')}
    assert 'docs/images/quickstart_cued.png' in {*links(ROOT / 'README.md')}
    assert {'methods', 'weights-and-data'} <= anchors(ROOT / 'README.md')


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in links(page):
        if '://' in link:
            continue
        path, _, anchor = unquote(link).partition('#')
        target = page.parent / path if path else page
        assert target.exists(), f'{link} does not exist'
        assert target.resolve().is_relative_to(ROOT), f'{link} is outside the repository'
        if anchor and target.suffix == '.md':
            assert anchor in anchors(target), f'{link}: there is no such heading'
