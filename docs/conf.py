"""The documentation site: all Markdown files of the repository as they are.

The source folder is the root of the repository, so that links between files work in the site as
they do on a code host:

    python -m sphinx -W --keep-going -c docs . docs/_build/html
"""

import sys
from pathlib import Path

from toast_mm import __version__

sys.path.insert(0, str(Path(__file__).parent / 'extensions'))

project = 'toast_mm'
author = copyright = 'toast_mm contributors'
version = release = __version__

root_doc = 'docs/index'
include_patterns = [
    'README.md',
    'CHANGELOG.md',
    'CONTRIBUTING.md',
    'benchmarks/*.md',
    'configs/*/README.md',
    'docs/**.md',
    'docs/notebooks/*.ipynb',
]
exclude_patterns = ['docs/_build', '.venv', 'data', 'work_dirs', 'toast_mm', 'tests', 'tools']
extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
    'source_pages',
    'model_zoo',
]


# Every reference to this package must resolve. Others are not looked up: that needs a network.
nitpicky = True
nitpick_ignore_regex = [('py:.*', r'(?!toast_mm).*'), ('py:.*', r'toast_mm\..*\._\w+')]
# Types that public signatures name, but that nobody needs to look up.
INTERNAL = (
    'apis.pictures.Sample',
    'apis.result_list.Some',
    'apis.results.Result',
    'conversion.items.Layer',
    'conversion.items.Skipped',
    'datasets.fine_grained.SplitFiles',
    'datasets.kept_images.KeepingLoader',
    'inspection.sample.Sample',
    'jobs.read_layout',
    'models.layers.Layer',
)
KINDS = ('py:class', 'py:func', 'py:obj')
nitpick_ignore = [(kind, f'toast_mm.{n}') for n in INTERNAL for kind in KINDS]

myst_heading_anchors = 4  # as on a code host
nb_execution_mode = 'off'  # notebooks are kept with their outputs; a test executes them

autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_inherit_docstrings = False
autodoc_member_order = 'groupwise'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

html_theme = 'furo'
html_title = f'toast_mm {__version__}'
html_additional_pages = {'index': 'index.html'}  # leads to docs/index.html
templates_path = ['_templates']
copybutton_exclude = '.linenos, .gp, .go'
