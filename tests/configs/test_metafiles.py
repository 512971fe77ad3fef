"""``model-index.yml`` and the metafiles, which mim and mmpretrain read, describe every job."""

from pathlib import Path

import pytest
import yaml
from job_files import CONFIGS, JOBS, full_size, load
from mmengine.registry import DefaultScope
from modelindex.load_model_index import load as load_index

ROOT = CONFIGS.parent
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
FILES = {file: yaml.safe_load((ROOT / file).read_text()) for file in INDEX}
ENTRIES = {entry['Config']: entry for file in FILES.values() for entry in file['Models']}
COLLECTIONS = [entry for file in FILES.values() for entry in file.get('Collections', [])]


def test_the_index_has_all_files():
    assert sorted(INDEX) == sorted(str(path.relative_to(ROOT)) for path in CONFIGS.rglob('*.yml'))


def test_every_job_stands_in_the_metafile_of_its_folder():
    jobs = set(CONFIGS.rglob('*.py')) - set(CONFIGS.glob('_base_/**/*.py'))
    assert {ROOT / config for config in ENTRIES} == jobs
    assert sum(len(file['Models']) for file in FILES.values()) == len(jobs)
    for file, content in FILES.items():
        assert {str(Path(entry['Config']).parent) for entry in content['Models']} == {
            str(Path(file).parent)
        }


def test_a_job_has_the_name_of_its_config():
    assert [entry['Name'] for entry in ENTRIES.values()] == [Path(c).stem for c in ENTRIES]


def test_collections_are_used_and_their_pages_exist():
    names = [entry['Name'] for entry in COLLECTIONS]
    assert len(set(names)) == len(names)
    assert {entry['In Collection'] for entry in ENTRIES.values()} == set(names)
    assert all((ROOT / entry['README']).is_file() for entry in COLLECTIONS)


def test_figures_are_those_of_the_pages():
    pages = [ROOT / 'README.md', *CONFIGS.rglob('README.md')]
    text = '\n'.join(page.read_text() for page in pages)
    results = [result for entry in ENTRIES.values() for result in entry.get('Results', [])]
    assert len(results) > 20
    for result in results:
        (figure,) = result['Metrics'].values()
        assert f' {figure:.1f} ' in text, result


def test_modelindex_reads_them():
    index = load_index(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert {model.name for model in index.models} == {Path(config).stem for config in ENTRIES}
    assert not index.check()


@pytest.mark.slow
@pytest.mark.parametrize('path', JOBS, ids=lambda path: path.stem)
def test_numbers_of_parameters(path):
    cfg = load(path)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        parameters = list(full_size(cfg).parameters())
    tuned = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    assert ENTRIES[str(path.relative_to(ROOT))]['Metadata'] == {
        'Parameters': sum(parameter.numel() for parameter in parameters),
        'Tuned Parameters': tuned,
    }
