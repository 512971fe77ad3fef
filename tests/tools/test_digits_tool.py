"""tools/dataset_converters/digits.py: the number of images."""

import runpy
import subprocess
import sys

import digits_files
import pytest
from commands import ROOT


@pytest.fixture
def asked(monkeypatch):
    """Run the tool, and return the sizes that it asks for."""

    def run(*arguments: str) -> dict[str, dict[str, int]]:
        sizes = []
        monkeypatch.setattr(
            digits_files, 'make_digits', lambda out, size, track: sizes.append(size)
        )
        monkeypatch.setattr(sys, 'argv', ['digits.py', 'out', *arguments])
        runpy.run_path(f'{ROOT}/tools/dataset_converters/digits.py', run_name='__main__')
        return sizes[0]

    return run


def test_without_a_number_the_sizes_are_those_of_the_quickstart(asked):
    assert asked() == digits_files.SIZES


def test_the_number_of_cued_training_images_can_be_chosen(asked):
    sizes = asked('--cued', '8000')
    assert sizes['cued'] == dict(digits_files.SIZES['cued'], train=8000)
    assert sizes['scenes'] == digits_files.SIZES['scenes']


@pytest.mark.parametrize('number', ['9', '-1', 'many'])
def test_a_wrong_number_is_refused(asked, capsys, number):
    with pytest.raises(SystemExit) as error:
        asked('--cued', number)
    assert error.value.code == 2 and number in capsys.readouterr().err


def test_drawing_imports_no_framework():
    command = 'import digits_files, sys; print({"torch", "mmengine", "toast_mm"} & {*sys.modules})'
    folder = ROOT / 'tools/dataset_converters'
    result = subprocess.run([sys.executable, '-c', command], cwd=folder, capture_output=True)
    assert result.stdout == b'set()\n'
