"""Files outside the package agree with the package."""

import re
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

import toast_mm

ROOT = Path(__file__).parents[1]


def read(path: str) -> str:
    return (ROOT / path).read_text()


def test_one_version():
    versions = re.findall(r'^## \[(.+?)\]', read('CHANGELOG.md'), re.MULTILINE)
    assert versions[:2] == ['Unreleased', toast_mm.__version__]
    assert yaml.safe_load(read('CITATION.cff'))['version'] == toast_mm.__version__


def test_workflow_tests_both_ends_of_the_range_as_ci_does():
    job = yaml.safe_load(read('.github/workflows/tests.yml'))['jobs']['tests']
    commands = [step['run'] for step in job['steps'] if 'run_tests.sh' in step.get('run', '')]
    assert commands == re.findall(r'^bash .*', read('.ci/run'), re.MULTILINE)

    requires = re.search(r'requires-python = "(.*)"', read('pyproject.toml'))[1]
    supported = [f'3.{minor}' for minor in range(30) if f'3.{minor}' in SpecifierSet(requires)]
    assert job['strategy']['matrix']['python'] == [supported[0], supported[-1]]


@pytest.mark.parametrize('name', ['bug', 'feature'])
def test_issue_form(name):
    form = yaml.safe_load(read(f'.github/ISSUE_TEMPLATE/{name}.yml'))
    assert form['name'] and form['description']
    identifiers = [part['id'] for part in form['body']]
    assert len(set(identifiers)) == len(identifiers)
    assert all(part['attributes']['label'] for part in form['body'])


def test_pre_commit_checks_what_the_tests_check():
    repositories = yaml.safe_load(read('.pre-commit-config.yaml'))['repos']
    (local,) = (repository for repository in repositories if repository['repo'] == 'local')
    hooks = [hook['entry'].split(' --')[0] for hook in local['hooks']]
    checks = re.findall(
        r'^\.venv/bin/(?:ruff|mypy)(?: \w+)?', read('tools/run_tests.sh'), re.MULTILINE
    )
    assert hooks == checks


def test_contributing_names_what_is_there():
    text = read('CONTRIBUTING.md')
    paths = re.findall(r'`((?:configs|tests|toast_mm|tools)/[^`*]+)`|\]\(([^)#]+)', text)
    paths = [path for path in map(''.join, paths) if 'NAME' not in path]
    assert len(paths) > 5 and not [path for path in paths if not (ROOT / path).exists()]

    folders = ('toast_mm/checkpoint', 'toast_mm/models', 'tests/models', 'tests/configs')
    code = '\n'.join(
        path.read_text() for folder in folders for path in (ROOT / folder).rglob('*.py')
    )
    names = {name for name in re.findall(r'`(?:self\.)?(\w+)[(`]', text) if '_' in name}
    names -= {'NAME', 'toast_mm'}
    assert len(names) > 10 and not names - set(re.findall(r'\w+', code))
