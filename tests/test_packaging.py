"""The wheel, the environment and the launchers. What they call is faked: nothing is installed."""

import ast
import os
import re
import shutil
import subprocess
import sys
from glob import glob
from importlib.metadata import PathDistribution, packages_distributions
from pathlib import Path
from zipfile import Path as ZipPath
from zipfile import ZipFile

import pytest
from mmengine.config import Config
from packaging.specifiers import SpecifierSet

import toast_mm

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / 'tools'
PACKAGED = [
    'LICENSE',
    'README.md',
    'configs',
    'model-index.yml',
    'pyproject.toml',
    'setup.py',
    'tests',
    'toast_mm',
    'tools',
]


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/usr/bin/env bash\n{script}')
    path.chmod(0o755)
    return path


def bash(*command: object, **environment: object) -> subprocess.CompletedProcess:
    """Run a script in an environment of which only PATH is inherited."""
    environment = {'PATH': os.environ['PATH'], **environment}
    return subprocess.run(
        ['bash', *map(str, command)],
        env={name: str(value) for name, value in environment.items()},
        cwd='/',
        capture_output=True,
        text=True,
    )


# The wheel


@pytest.fixture(scope='module')
def checkout(tmp_path_factory) -> Path:
    """What a wheel is built from, copied because a build leaves its traces."""
    copy = tmp_path_factory.mktemp('checkout')
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True)
        else:
            shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope='module')
def wheel(checkout, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('wheel')
    options = ['-qq', '--no-deps', '--no-index', '--no-build-isolation', '--wheel-dir', folder]
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', *options, checkout], check=True)
    (wheel,) = folder.iterdir()
    return wheel


@pytest.fixture(scope='module')
def distribution(wheel) -> PathDistribution:
    return PathDistribution(ZipPath(wheel, f'toast_mm-{toast_mm.__version__}.dist-info/'))


def test_wheel_holds_configs_and_tools_as_files(checkout, wheel):
    expected = [*checkout.glob('configs/**/*.py'), *checkout.glob('tools/**/*.py')]
    expected += [checkout / 'tools/dist_train.sh', checkout / 'model-index.yml']
    with ZipFile(wheel) as archive:
        for path in expected:
            name = f'toast_mm/.mim/{path.relative_to(checkout)}'
            assert archive.read(name) == path.read_bytes()


def test_wheel_holds_nothing_else(wheel):
    names = ZipFile(wheel).namelist()
    assert {name.split('/')[0] for name in names} == {
        'toast_mm',
        f'toast_mm-{toast_mm.__version__}.dist-info',
    }
    assert not [name for name in names if 'test_' in name or '__pycache__' in name]
    assert not [name for name in names if name.endswith(('setup_env.sh', 'run_tests.sh'))]
    assert 'toast_mm/py.typed' in names
    weights = {path.name for path in (ROOT / 'toast_mm/weights').glob('*.safetensors')}
    assert {name.split('/')[-1] for name in names if '/weights/' in name} == weights


def test_metadata(distribution):
    assert distribution.version == toast_mm.__version__
    assert distribution.read_text('top_level.txt').split() == ['toast_mm']


def test_no_openmmlab_package_is_required(distribution):
    required = [line for line in distribution.requires if 'extra ==' not in line]
    assert 'torch>=2.10' in required
    assert not [line for line in required if line.startswith(('mm', 'onedl'))]


def test_what_is_imported_is_required(distribution):
    required = {plain_name(re.match(r'[\w.-]+', line)[0]) for line in distribution.requires}
    providers = packages_distributions()
    code = [*(ROOT / 'toast_mm').rglob('*.py'), *(ROOT / 'tools').rglob('*.py')]
    modules = {
        name.partition('.')[0]
        for path in code
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    others = modules - sys.stdlib_module_names - {'toast_mm'} - {path.stem for path in code}
    assert {'cv2', 'mmseg', 'torch'} <= others
    # An extra that is not installed is called as its module.
    names = {m: map(plain_name, providers.get(m, [m])) for m in others}
    missing = [m for m in others if required.isdisjoint(names[m])]
    assert missing == []


def plain_name(distribution: str) -> str:
    return re.sub('[-_.]+', '-', distribution).lower()


def test_configs_inherit_by_package_name(tmp_path):
    base = ROOT / 'configs/_base_/default_runtime.py'
    job = tmp_path / 'job.py'
    job.write_text(f"_base_ = ['toast_mm::{base.relative_to(ROOT / 'configs')}']\n")
    inherited, expected = (Config.fromfile(path).to_dict() for path in (job, base))
    for hook in inherited['custom_hooks']:
        hook.pop('_scope_', None)  # mmengine adds where a type was found
    for backend in inherited['vis_backends']:
        backend.pop('_scope_', None)
    assert inherited == expected


# The environment

# A fake Python for setup_env.sh: it makes an environment of itself and logs installations.
FAKE_PYTHON = """
case "$*" in
  *version_info*) echo {version} ;;
  *ensurepip*) exit {no_venv} ;;
  '-m venv'*) echo venv >> "$LOG"; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *) echo "${{PIP_INDEX_URL:+$PIP_INDEX_URL }}$*" >> "$LOG"
     [[ "$*" != *"${{FAIL:-nothing}}"* ]] && exit
     printf 'Traceback:\\nsome reason\\n' >&2
     exit 1 ;;
esac
"""


def fake_python(path: Path, version: str = '3.11', no_venv: int = 0) -> Path:
    return executable(path, FAKE_PYTHON.format(version=version, no_venv=no_venv))


class Machine:
    """A copy of the repository's setup on a PATH without any Python but fake ones."""

    def __init__(self, root: Path):
        self.root = root
        self.bin = root / 'bin'
        self.log = root / 'log'
        self.bin.mkdir()
        for tool in ('bash', 'cat', 'cksum', 'cp', 'dirname', 'env', 'grep', 'mkdir', 'rm'):
            (self.bin / tool).symlink_to(shutil.which(tool))
        needed = ('pyproject.toml', 'setup.py', 'requirements/pins.txt')
        for name in (*needed, 'toast_mm/version.py', 'tools/setup_env.sh'):
            (root / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, root / name)

    def setup_env(self, **environment: object) -> subprocess.CompletedProcess:
        self.log.write_text('')
        script = self.root / 'tools/setup_env.sh'
        return bash(script, **{'PATH': self.bin, 'LOG': self.log, **environment})

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


PIP = '-m pip install -qq --disable-pip-version-check'
PAIR = ('torch', 'torchvision')
OPENCV = [f'{PIP} -c requirements/pins.txt opencv-python', '-c import cv2']
REST = [f'{PIP} -r requirements/pins.txt', f'{PIP} --no-deps --no-build-isolation -e .']
INSTALLATION = [*OPENCV, *REST]


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def test_setup_env_installs_once(machine):
    fake_python(machine.bin / 'python3')
    assert machine.setup_env().returncode == 0
    assert machine.calls == ['venv', *INSTALLATION]

    again = machine.setup_env()
    assert (again.returncode, again.stdout, machine.calls) == (0, '', [])


def test_setup_env_begins_an_interrupted_installation_anew(machine):
    fake_python(machine.bin / 'python3')
    assert machine.setup_env(FAIL='-e .').returncode != 0
    assert machine.setup_env().returncode == 0
    assert machine.calls == ['venv', *INSTALLATION]


def test_setup_env_follows_changed_pins(machine):
    fake_python(machine.bin / 'python3')
    machine.setup_env()
    pins = machine.root / 'requirements/pins.txt'
    pins.write_text(pins.read_text() + 'einops==0.8.2\n')
    assert machine.setup_env().returncode == 0
    assert machine.calls == INSTALLATION


def test_setup_env_takes_torch_alone_from_its_index(machine):
    fake_python(machine.bin / 'python3')
    machine.setup_env()
    assert machine.setup_env(TORCH_INDEX_URL='https://torch.example').returncode == 0
    *first, torch = machine.calls[:4]
    assert (first, machine.calls[4:]) == (['venv', *OPENCV], REST)
    assert torch.startswith(f'https://torch.example {PIP} --no-deps torch==')
    assert 'torchvision==' in torch

    # An environment keeps its settings: a later call need not repeat them.
    assert machine.setup_env().returncode == 0
    assert machine.calls == []
    assert machine.setup_env(TORCH='cuda').returncode == 0
    assert machine.calls == ['venv', *INSTALLATION]


def test_setup_env_takes_torch_for_cpus_as_a_pair(machine):
    """uv installs it; other packages are installed as usual."""
    fake_python(machine.bin / 'python3')
    first = machine.setup_env(TORCH='cpu')
    assert first.returncode == 0 and '(about 2 GB)' in first.stdout
    pins = (machine.root / 'requirements/pins.txt').read_text().splitlines()
    uv, torch, torchvision = (
        next(line for line in pins if line.startswith(f'{name}==')) for name in ('uv', *PAIR)
    )
    pair = [
        f'{PIP} {uv}',
        f'-m uv pip install -q --python .venv --torch-backend cpu --no-deps {torch} {torchvision}',
    ]
    assert machine.calls == ['venv', *OPENCV, *pair, *REST]

    assert machine.setup_env().stdout == ''
    assert machine.calls == []
    (machine.root / 'requirements/pins.txt').write_text('\n'.join([*pins, 'einops==0.8.2']))
    assert machine.setup_env().returncode == 0
    assert machine.calls == [*OPENCV, *pair, *REST]


def test_setup_env_remembers_the_torch_of_an_interrupted_installation(machine):
    fake_python(machine.bin / 'python3')
    assert machine.setup_env(TORCH='cpu', FAIL='pip install -q ').returncode != 0
    assert machine.setup_env().returncode == 0
    assert [line for line in machine.calls if '--torch-backend cpu' in line]


@pytest.mark.parametrize('tool', ['nvidia-smi', 'true'])
def test_setup_env_tells_the_size_before_it_downloads(machine, tool):
    if glob('/dev/nvidia*') and tool == 'true':
        pytest.skip('this machine has a GPU')
    fake_python(machine.bin / 'python3')
    executable(machine.bin / tool, '')
    lines = machine.setup_env(FAIL='-r requirements').stdout.splitlines()
    assert lines[-1].endswith('installing requirements/pins.txt (about 6 GB, some minutes)')
    offered = 'with TORCH=cpu before the command it is 2 GB, not 6 GB' in lines[0]
    assert offered == (tool == 'true')


def test_setup_env_asks_for_the_libraries_of_opencv_before_it_downloads_torch(machine):
    fake_python(machine.bin / 'python3')
    result = machine.setup_env(FAIL='import cv2', TORCH='cpu')
    assert result.returncode == 1
    hint = '(Debian, Ubuntu: apt install libgl1 libglib2.0-0)'
    assert result.stderr == f'setup_env.sh: OpenCV does not load: some reason {hint}\n'
    assert machine.calls == ['venv', *OPENCV]


def test_setup_env_skips_what_does_not_run_or_fit(machine):
    fake_python(machine.bin / 'python3', '3.15')
    executable(machine.bin / 'python3.12', 'exit 127')  # a shim with nothing behind it
    fake_python(machine.bin / 'python3.10', '3.10')
    result = machine.setup_env()
    assert result.returncode == 0
    assert 'with Python 3.10' in result.stdout


@pytest.mark.parametrize('version', ['3.10', '3.11', '3.12', '3.13', '3.14'])
def test_setup_env_takes_every_supported_python(machine, version):
    fake_python(machine.bin / f'python{version}', version)
    result = machine.setup_env()
    assert result.returncode == 0 and f'with Python {version}' in result.stdout
    requires = re.search(r'requires-python = "(.*)"', (ROOT / 'pyproject.toml').read_text())[1]
    assert version in SpecifierSet(requires)


def test_setup_env_obeys_python(machine):
    fake_python(machine.bin / 'python3')
    machine.setup_env()
    other = fake_python(machine.root / 'other python/python', '3.12')
    assert 'with Python 3.12' in machine.setup_env(PYTHON=other).stdout
    assert machine.setup_env(PYTHON=other).stdout == ''
    assert machine.setup_env().stdout == ''


def test_setup_env_says_what_is_wrong(machine):
    def error(**environment):
        result = machine.setup_env(**environment)
        assert result.returncode == 1
        return result.stderr.strip()

    needed = 'Python 3.10 to 3.14'
    fake_python(machine.bin / 'python3', '3.9')
    fake_python(machine.bin / 'python3.12', '3.12', no_venv=1)
    assert error().endswith('has no venv module (Debian, Ubuntu: apt install python3.12-venv)')
    assert error(PYTHON='python3').endswith(f'is Python 3.9; toast_mm needs {needed}')
    assert error(PYTHON='nowhere').endswith(f'PYTHON=nowhere does not run; toast_mm needs {needed}')
    assert error(TORCH='gpu').endswith('TORCH=gpu must be cpu or cuda')
    both = {'TORCH': 'cpu', 'TORCH_INDEX_URL': 'https://torch.example'}
    assert error(**both).endswith('both name a build of torch; set one of them')
    (machine.bin / 'python3.12').unlink()
    assert f'is {needed}; install one or name it' in error()


# The launchers


@pytest.fixture
def echo(tmp_path) -> Path:
    """An executable that prints its arguments, one per line."""
    return executable(tmp_path / 'bin/srun', 'printf "%s\\n" "$@"')


def torchrun(processes: int, nodes: int = 1, rank: int = 0, address='127.0.0.1', port=29500):
    return [
        *('-m', 'torch.distributed.run'),
        f'--nnodes={nodes}',
        f'--node_rank={rank}',
        f'--master_addr={address}',
        f'--master_port={port}',
        f'--nproc_per_node={processes}',
    ]


def test_dist_train(echo):
    command = TOOLS / 'dist_train.sh', 'a config.py', 2, '--cfg-options', 'a=b c'
    expected = [str(TOOLS / 'train.py'), 'a config.py', '--launcher', 'pytorch']
    expected += ['--cfg-options', 'a=b c']
    assert bash(*command, PYTHON=echo).stdout.splitlines() == torchrun(2) + expected

    nodes = {'NNODES': 2, 'NODE_RANK': 1, 'MASTER_ADDR': 'first', 'PORT': 1234}
    lines = bash(*command, PYTHON=echo, **nodes).stdout.splitlines()
    assert lines == torchrun(2, 2, 1, 'first', 1234) + expected

    lines = bash(*command, PYTHON=echo, **nodes, MAX_RESTARTS=3).stdout.splitlines()
    meeting = ['--rdzv_backend=c10d', '--rdzv_endpoint=first:1234', '--max_restarts=3']
    assert lines == [*torchrun(2, 2)[:3], *meeting, '--nproc_per_node=2', *expected]


def test_what_no_restart_mends_is_tried_once(tmp_path):
    """The check of train.py ends the command before torchrun starts."""
    python = executable(tmp_path / 'python', 'printf "%s\\n" "$LOCAL_RANK $*" >&2; exit 7')
    command = TOOLS / 'dist_train.sh', 'x.py', 2, '--amp'
    result = bash(*command, PYTHON=python, MAX_RESTARTS=3)
    assert result.returncode == 7
    assert result.stderr == f'1 {TOOLS}/train.py x.py --check --launcher pytorch --amp\n'


@pytest.mark.parametrize('given', [{}, {'TORCH_ELASTIC_SHUTDOWN_TIMEOUT': 9}])
def test_torchrun_gives_its_processes_time_to_save(tmp_path, given):
    """Also after SIGUSR1, which otherwise ends torchrun at once."""
    get_settings = (
        'import sys, torch.distributed.run as run; '
        'config = run.config_from_args(run.parse_args(sys.argv[3:]))[0]; '
        'print(config.shutdown_timeout, config.signals_to_handle)'
    )
    python = executable(tmp_path / 'python', f'exec {sys.executable} -c \'{get_settings}\' "$@"')
    result = bash(TOOLS / 'dist_train.sh', 'x.py', 2, PYTHON=python, **given)
    timeout = given.get('TORCH_ELASTIC_SHUTDOWN_TIMEOUT', 600)
    assert result.stdout == f'{timeout} SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1\n', result.stderr


def test_dist_test(echo):
    lines = bash(TOOLS / 'dist_test.sh', 'x.py', 'a b.pth', 3, '--out', 'c d', PYTHON=echo).stdout
    assert lines.splitlines() == [
        *torchrun(3),
        *(str(TOOLS / 'test.py'), 'x.py', 'a b.pth', '--launcher', 'pytorch', '--out', 'c d'),
    ]


@pytest.mark.parametrize(
    ('processes', 'given', 'threads'), [(1, {}, ''), (2, {}, '1'), (2, {'OMP_NUM_THREADS': 3}, '3')]
)
def test_dist_train_limits_threads_like_torchrun(tmp_path, processes, given, threads):
    python = executable(tmp_path / 'python', 'echo "${OMP_NUM_THREADS:-}"')
    result = bash(TOOLS / 'dist_train.sh', 'x.py', processes, PYTHON=python, **given)
    assert result.stdout.strip() == threads


def srun(gpus: int, per_node: int, *start: str, cpus: int = 5, extra=()):
    return [
        '--partition=part',
        '--job-name=job',
        f'--gres=gpu:{per_node}',
        f'--ntasks={gpus}',
        f'--ntasks-per-node={per_node}',
        f'--cpus-per-task={cpus}',
        '--kill-on-bad-exit=1',
        *(*extra, *start, 'python', '-u'),
    ]


def test_slurm_train(echo):
    path = f'{echo.parent}:{os.environ["PATH"]}'
    command = TOOLS / 'slurm_train.sh', 'part', 'job', 'a config.py', '--work-dir', 'c d'
    expected = [str(TOOLS / 'train.py'), 'a config.py', '--launcher', 'slurm', '--work-dir', 'c d']
    start = ['bash', '-c', 'trap "" USR1; exec "$@"', 'bash']
    extra = ['--exclusive', '-x', 'node7']
    for given, options in [
        ({}, srun(8, 8, *start)),
        ({'GPUS': 2, 'CPUS_PER_TASK': ''}, srun(2, 2, *start)),
        ({'GPUS': 16, 'GPUS_PER_NODE': 4, 'CPUS_PER_TASK': 3}, srun(16, 4, *start, cpus=3)),
        ({'SRUN_ARGS': '--exclusive -x node7'}, srun(8, 8, *start, extra=extra)),
    ]:
        lines = bash(*command, PATH=path, PYTHON='python', **given).stdout.splitlines()
        assert lines == options + expected


@pytest.mark.parametrize(
    ('status', 'job', 'scontrol', 'requeued', 'told'),
    [
        (138, '77', 'echo "$@"', True, False),
        (138, '77', 'echo "$@"; exit 1', True, True),
        (138, '', 'echo "$@"', False, True),
        (143, '77', 'echo "$@"', False, False),
        (1, '77', 'echo "$@"', False, False),
        (0, '77', 'echo "$@"', False, False),
    ],
)
def test_slurm_train_queues_the_job_again(tmp_path, status, job, scontrol, requeued, told):
    """138 is what a training ends with that has saved after SIGUSR1; Slurm may refuse the job."""
    executable(tmp_path / 'srun', f'exit {status}')
    executable(tmp_path / 'scontrol', scontrol)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    command = TOOLS / 'slurm_train.sh', 'part', 'job', 'x.py'
    result = bash(*command, PATH=path, PYTHON='python', SLURM_JOB_ID=job)
    assert result.returncode == status
    assert result.stdout == ('requeue 77\n' if requeued else '')
    sentence = 'the training has saved, but is not queued again: run it again with --resume'
    assert result.stderr == (f'{TOOLS}/slurm_train.sh: {sentence}\n' if told else '')


def test_a_signal_before_the_training_does_not_look_like_one_that_it_left_after(tmp_path):
    """A process that SIGUSR1 ends has the status of a training that has saved."""
    executable(tmp_path / 'srun', 'while [[ $1 != bash ]]; do shift; done; "$@"')
    executable(tmp_path / 'scontrol', 'echo "$@"')
    python = executable(tmp_path / 'python', 'kill -USR1 $$; echo "goes on"; exit 3')
    path = f'{tmp_path}:{os.environ["PATH"]}'
    command = TOOLS / 'slurm_train.sh', 'part', 'job', 'x.py'
    result = bash(*command, PATH=path, PYTHON=python, SLURM_JOB_ID='77')
    assert (result.returncode, result.stdout) == (3, 'goes on\n')


def test_slurm_test(echo):
    path = f'{echo.parent}:{os.environ["PATH"]}'
    command = TOOLS / 'slurm_test.sh', 'part', 'job', 'x.py', 'a b.pth', '--tta'
    lines = bash(*command, PATH=path, PYTHON='python', GPUS=1).stdout.splitlines()
    expected = [str(TOOLS / 'test.py'), 'x.py', 'a b.pth', '--launcher', 'slurm', '--tta']
    assert lines == srun(1, 1) + expected


@pytest.mark.parametrize(
    ('variables', 'message'),
    [
        (dict(MAX_RESTARTS='x'), 'MAX_RESTARTS=x must be a whole number from 0 to 65535'),
        (dict(NNODES='-1'), 'NNODES=-1 must be a whole number from 1 to 65535'),
        (dict(NNODES='0'), 'NNODES=0 must be a whole number from 1 to 65535'),
        (dict(NNODES='08'), 'NNODES=08 must be a whole number from 1 to 65535'),
        (dict(NNODES='2', NODE_RANK='2'), 'NODE_RANK=2 must be below NNODES=2'),
        (dict(NODE_RANK='1'), 'NODE_RANK=1 must be below NNODES=1'),
        (dict(PORT='65536'), 'PORT=65536 must be a whole number from 1 to 65535'),
        (
            dict(TORCH_ELASTIC_SHUTDOWN_TIMEOUT='1 h'),
            'TORCH_ELASTIC_SHUTDOWN_TIMEOUT=1 h must be a whole number from 1 to 65535',
        ),
        (dict(GPUS='x'), 'GPUS=x must be a whole number from 1 to 65535'),
        (dict(GPUS='0'), 'GPUS=0 must be a whole number from 1 to 65535'),
        (dict(GPUS_PER_NODE='a[$(date)]'), 'GPUS_PER_NODE=a[$(date)] must be a whole number'),
        (dict(CPUS_PER_TASK='1.5'), 'CPUS_PER_TASK=1.5 must be a whole number from 1 to 65535'),
    ],
)
def test_launchers_check_variables(tmp_path, variables, message):
    slurm = any('PU' in name for name in variables)
    only_training = {'MAX_RESTARTS', 'TORCH_ELASTIC_SHUTDOWN_TIMEOUT'}
    arguments = dict(train=['x.py'], test=['x.py', 'x.pth'])
    for what in ('train',) if only_training & variables.keys() else arguments:
        name = f'slurm_{what}.sh' if slurm else f'dist_{what}.sh'
        around = (['part', 'job'], []) if slurm else ([], ['2'])
        command = TOOLS / name, *around[0], *arguments[what], *around[1]
        result = bash(*command, PYTHON='false', **variables)
        assert result.returncode == 2
        assert result.stderr.startswith(f'{TOOLS / name}: {message}')


@pytest.mark.parametrize(
    ('script', 'arguments'),
    [
        ('dist_train.sh', ['x.py']),
        ('dist_train.sh', ['x.py', '--amp']),
        ('dist_test.sh', ['x.py', '2']),
        ('slurm_train.sh', ['part', 'x.py']),
        ('slurm_test.sh', ['part', 'job', 'x.py']),
    ],
)
def test_launchers_say_what_they_want(script, arguments):
    result = bash(TOOLS / script, *arguments, PYTHON='false')
    assert result.returncode == 2
    assert result.stderr.startswith('usage: ')


def test_python_choice(tmp_path):
    def choice(**environment):
        return bash(
            '-c', f'source {tmp_path}/tools/python.sh; echo "$PYTHON"', **environment
        ).stdout

    (tmp_path / 'tools').mkdir()
    shutil.copy(TOOLS / 'python.sh', tmp_path / 'tools')
    assert choice() == 'python3\n'
    own, conda, active = (
        executable(tmp_path / folder / 'bin/python', '') for folder in ('.venv', 'conda', 'active')
    )
    assert choice() == f'{own}\n'
    assert choice(CONDA_PREFIX=tmp_path / 'conda') == f'{conda}\n'
    both = {'CONDA_PREFIX': tmp_path / 'conda', 'VIRTUAL_ENV': tmp_path / 'active'}
    assert choice(**both) == f'{active}\n'
    assert choice(**both, PYTHON='mine') == 'mine\n'


def test_a_checkout_runs_without_being_installed():
    script = f'source {TOOLS}/python.sh; echo "$PYTHONPATH"'
    assert bash('-c', script).stdout == f'{ROOT}\n'
    assert bash('-c', script, PYTHONPATH='/mine').stdout == f'{ROOT}:/mine\n'
