"""tools/misc/doctor.py on machines and packages that are broken in known ways."""

import json
import os
import subprocess
import sys
from collections import namedtuple

import doctor
import doctor_machine
import doctor_packages
import pytest
from commands import ROOT
from doctor_findings import BROKEN, NOTE, OK, Finding

FACTS = dict(
    cuda='13.0', gpus=[], bf16=True, threads=2, capability='AVX2', ops=False,
    transformers=False, project=None,
)  # fmt: skip


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Modules by their source, for the probe."""

    def make(**sources: str) -> None:
        for name, source in sources.items():
            (tmp_path / f'{name}.py').write_text(source)
        monkeypatch.setenv('PYTHONPATH', str(tmp_path))
        monkeypatch.setattr(doctor, 'MODULES', tuple(sources))
        monkeypatch.setattr(doctor, 'OURS', ())

    return make


def found_in(*arguments):
    return {finding.what: finding for finding in doctor_packages.imports(*arguments)}


def test_broken_imports(modules):
    modules(
        fine='print("not a report")',
        gui='raise ImportError("libGL.so.1: cannot open shared object file")',
        vision='raise RuntimeError("operator torchvision::nms does not exist")',
        leaves='import sys; sys.exit(3)',
    )
    reports, status = doctor.probe(doctor.MODULES)
    found = found_in(doctor.MODULES, reports, status)
    assert [*found] == ['import gui', 'import vision', 'import leaves']
    assert {finding.state for finding in found.values()} == {BROKEN}
    assert 'apt-get install libgl1 libglib2.0-0' in found['import gui'].mend
    assert 'from one index' in found['import vision'].mend
    assert found['import leaves'].text == 'SystemExit: 3'


def test_an_import_that_ends_python(modules):
    modules(fine='', fatal='import os; os.kill(os.getpid(), 4)', behind='')
    reports, status = doctor.probe(doctor.MODULES)
    (finding,) = doctor_packages.imports(doctor.MODULES, reports, status)
    assert (finding.what, finding.text) == ('import fatal', 'it ends Python by SIGILL')
    assert finding.mend.startswith('the processor lacks instructions')


def test_an_import_that_never_ends(modules, monkeypatch):
    modules(waits='import time; time.sleep(60)')
    monkeypatch.setattr(doctor, 'SECONDS', 0.5)
    (finding,) = doctor_packages.imports(doctor.MODULES, *doctor.probe(doctor.MODULES))
    assert (finding.what, finding.text) == ('import waits', 'it does not end')


@pytest.fixture
def packages(monkeypatch):
    """Exchange versions of what is installed: ``packages(torch='2.4.0', timm=None)``."""
    real = doctor_packages.installed

    def exchange(**versions):
        named = {name.replace('_', '-'): version for name, version in versions.items()}
        monkeypatch.setattr(
            doctor_packages, 'installed', lambda n: named[n] if n in named else real(n)
        )

    return exchange


def test_versions_outside_the_bounds(packages):
    packages(torch='2.4.0', timm=None, mat4py='0.1')
    found = {finding.what: finding for finding in doctor_packages.versions()}
    assert found['torch'] == Finding(
        BROKEN, 'torch', '2.4.0, needed >=2.10', 'pip install "torch>=2.10"'
    )
    assert found['timm'].text.startswith('not installed, needed >=1.0')
    assert found['mat4py'] == Finding(OK, 'mat4py', '0.1, any version')
    assert found['Python'].state == OK


@pytest.mark.parametrize(
    ('versions', 'needed'),
    [
        (dict(onedl_mmcv='2.3.6'), 'onedl-mmengine'),
        (dict(onedl_mmcv=None, mmcv='2.1.0'), 'mmengine'),
        (dict(onedl_mmcv=None), 'onedl-mmengine'),
    ],
)
def test_the_build_decides_what_is_needed(packages, versions, needed):
    none = dict(onedl_mmengine=None, onedl_mmpretrain=None, onedl_mmsegmentation=None)
    packages(**none, **versions)
    found = {finding.what: finding for finding in doctor_packages.versions()}
    assert found[needed].state == BROKEN and found[needed].text.startswith('not installed')


def test_opencv_without_windows_is_enough(packages):
    packages(**{'opencv_python': None, 'opencv_python_headless': '5.0'})
    found = {finding.what: finding for finding in doctor_packages.versions()}
    assert found['opencv-python'].state == OK


def test_packages_that_overwrite_each_other(packages):
    packages(onedl_mmcv='2.3.6', mmcv='2.1.0', mmcv_lite=None, mmcv_full=None)
    (finding,) = doctor_packages.clashes()
    assert finding.what == 'onedl-mmcv and mmcv'
    assert finding.mend == 'pip uninstall -y onedl-mmcv mmcv; pip install onedl-mmcv'


def test_traps(packages):
    packages(onedl_mim=None)
    assert [f.what for f in doctor_packages.traps(FACTS)] == ['mmcv']
    *_, finding = doctor_packages.traps({**FACTS, 'transformers': True})
    assert (finding.what, finding.state) == ('transformers', NOTE)
    assert [*doctor_packages.traps({})] == []
    packages(onedl_mim='0.5.1')
    (finding,) = doctor_packages.traps({})
    assert (finding.state, finding.mend) == (
        NOTE,
        'pip uninstall onedl-mim; pip install openmim',
    )


def test_processor():
    fast = doctor_machine.processor('model name\t: Fast 1\nflags\t\t: fpu avx2 amx_bf16 sse\n')
    assert fast == Finding(OK, 'processor', 'Fast 1: avx2, amx_bf16')
    slow = doctor_machine.processor('model name\t: Slow 1\nflags\t\t: fpu sse\n')
    assert slow.state == NOTE and 'without AVX2' in slow.text
    assert 'float32' in doctor_machine.bfloat16(False).text


def test_threads(monkeypatch, tmp_path):
    assert doctor_machine.threads(8, 2).mend == 'export OMP_NUM_THREADS=2'
    assert doctor_machine.threads(2, 2).state == OK
    monkeypatch.setattr(doctor_machine, 'CGROUP', tmp_path)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: range(16), raising=False)
    for quota, cores in (('150000 100000\n', 2), ('max 100000\n', 16), ('3200000 100000', 16)):
        (tmp_path / 'cpu.max').write_text(quota)
        assert doctor_machine.usable_cores() == cores


def test_memory():
    meminfo = f'MemTotal:       {32 * 2**20} kB\nMemFree:  12 kB\n'
    assert doctor_machine.memory(meminfo, 'max\n') == Finding(OK, 'memory', '32.0 GiB')
    container = doctor_machine.memory(meminfo, f'{2**31}\n')
    assert container.state == NOTE and container.text.startswith('2.0 GiB')
    status = namedtuple('status', 'f_blocks f_frsize')
    docker = doctor_machine.shared_memory(status(16384, 4096))
    assert docker.state == NOTE and docker.text.startswith('0.06 GiB')
    assert '--shm-size' in docker.mend


@pytest.mark.parametrize(
    ('facts', 'present', 'state', 'text'),
    [
        (dict(), False, OK, 'none; torch for CUDA 13.0 runs on the processor'),
        (dict(cuda=None), False, OK, 'none; torch is for the processor'),
        (dict(), True, BROKEN, 'there is one, but torch for CUDA 13.0 cannot use it'),
        (dict(cuda=None), True, NOTE, 'there is one, but this torch is for the processor'),
        (
            dict(gpus=[dict(name='H100', memory=80 * 2**30, bf16=True)]),
            True,
            OK,
            'H100, 80 GiB, bfloat16',
        ),
    ],
)
def test_gpu(facts, present, state, text):
    (finding,) = doctor_machine.gpus({**FACTS, **facts}, present)
    assert (finding.state, finding.text) == (state, text)


def test_variables():
    wrong = dict(TOAST_MM_TRUST_FILES='1', ATEN_CPU_CAPABILITY='avx2')
    assert [f.what for f in doctor_machine.variables(wrong)] == [*wrong]
    assert [*doctor_machine.variables(dict(TOAST_MM_TRUST_FILES='0'))] == []


@pytest.mark.parametrize(('source', 'status'), [('', 0), ('raise ImportError("no")', 1)])
def test_exit_status_and_json(modules, monkeypatch, capsys, tmp_path, source, status):
    monkeypatch.chdir(tmp_path)
    modules(one=source)
    monkeypatch.setattr(doctor_packages, 'versions', lambda: [])
    monkeypatch.setattr(doctor_packages, 'clashes', lambda: [])
    monkeypatch.setattr(sys, 'argv', ['doctor.py', '--json'])
    with pytest.raises(SystemExit) as ended:
        doctor.main()
    assert ended.value.code == status
    report = json.loads(capsys.readouterr().out)
    assert report['broken'] == status
    states = {finding['what']: finding['state'] for finding in report['findings']}
    assert states['import one' if status else 'imports'] == (BROKEN if status else OK)
    monkeypatch.setattr(sys, 'argv', ['doctor.py'])
    with pytest.raises(SystemExit):
        doctor.main()
    assert ('1 broken' if status else 'Nothing is broken') in capsys.readouterr().out


@pytest.mark.slow
def test_this_machine(tmp_path):
    ended = subprocess.run(
        [sys.executable, str(ROOT / 'tools/misc/doctor.py')],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert 'all parts are imported' in ended.stdout and 'Nothing is broken' in ended.stdout
