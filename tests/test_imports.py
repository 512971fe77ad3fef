"""Output and side effects of importing the package."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

from toast_mm.imports import quiet_imports

OPS = 'Fail to import ``MultiScaleDeformableAttention`` from ``mmcv.ops``'


def test_importing_the_package_imports_neither_mmpretrain_nor_mmseg():
    heavy = {'matplotlib', 'mmpretrain', 'mmseg', 'onnx', 'sklearn', 'timm', 'torchvision'}
    # mmengine imports transformers, and that torchvision, where peft has brought it.
    code = (
        'import sys, mmengine.runner; before = {*sys.modules}; import toast_mm; '
        f'print({heavy} & ({{*sys.modules}} - before))'
    )
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.stdout == 'set()\n', result.stderr


@pytest.mark.slow
def test_import_prints_nothing():
    command = [sys.executable, '-W', 'default:Fail to import', '-c', 'import toast_mm.engine']
    result = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in result.stderr.splitlines() if 'OneDL' in line or 'Fail to' in line]
    assert (result.returncode, result.stdout, lines) == (0, '', [])


def test_other_output_goes_to_standard_error(capsys):
    with quiet_imports():
        print('Could not import OneDL')
        print('Could not import OneDL: why')
        print('another')
    assert capsys.readouterr() == ('', 'Could not import OneDL: why\nanother\n')


def test_output_survives_an_error(capsys):
    with pytest.raises(ImportError), quiet_imports():
        print('what went before')
        raise ImportError
    assert capsys.readouterr().err == 'what went before\n'


def test_one_warning_is_left_out_for_the_time_of_the_import():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        before = list(warnings.filters)
        with quiet_imports():
            warnings.warn(OPS, UserWarning, stacklevel=1)
            warnings.warn('another', UserWarning, stacklevel=1)
            warnings.filterwarnings('ignore', 'of an imported package')
            theirs = warnings.filters[0]
        assert warnings.filters == [theirs, *before]
        warnings.warn(OPS, UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in caught] == ['another', OPS]
