from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def requirements(name):
    """The requirements of one file, without its comments."""
    lines = (ROOT / 'requirements' / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


# mmcv and onedl-mmcv both install into `mmcv/` and destroy each other, and pip cannot know that
# one stands for the other. So neither family is required: each is an extra, to be chosen once.
EXTRAS = {
    'onedl': [
        'onedl-mmengine>=0.10.12',
        'onedl-mmcv>=2.3.6',
        'onedl-mmpretrain>=1.3.6',
        'onedl-mmsegmentation>=1.4.2',
    ],
    'upstream': ['mmengine>=0.10.7', 'mmcv>=2.1', 'mmpretrain>=1.2', 'mmsegmentation>=1.2.2'],
    'tensorboard': ['tensorboard'],
    'quickstart': ['scikit-learn'],
    'onnx': ['onnx', 'onnxscript', 'onnxruntime'],
    'tests': requirements('tests.txt'),
}

setup(
    name='toast_mm',
    version=run_path(str(ROOT / 'toast_mm' / 'version.py'))['__version__'],
    description='Transfer learning by top-down attention steering (TOAST) for mmpretrain and '
    'mmsegmentation',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    author='toast_mm authors',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.10,<3.15',
    install_requires=requirements('runtime.txt'),
    extras_require=EXTRAS,
    packages=find_packages(include=['toast_mm', 'toast_mm.*']),
    # `.mim` is where mmengine and openmim look for a package's configs and tools. Its entries are
    # links to the repository's own folders; a wheel holds what they point at.
    package_data={
        'toast_mm': [
            'weights/*.safetensors',
            'configs/*.py',  # links, under names that Python can import
            'configs/*/*.py',
            '.mim/configs/**/*.py',
            '.mim/configs/**/*.yml',
            '.mim/tools/**/*.py',
            '.mim/tools/**/*.sh',
            '.mim/model-index.yml',
        ]
    },
    # These work on a checkout.
    exclude_package_data={
        'toast_mm': [f'.mim/tools/{name}.sh' for name in ('quickstart', 'run_tests', 'setup_env')]
    },
    zip_safe=False,
)
