"""What of the viewer's files is our own: the URL that they are served at, the page, and the configuration.

As published, the files ask for each other below ``/``, where the console is.
"""

import re
from pathlib import Path

from node.errors import PackageRefused
from node.viewer.address import PREFIX

PAGE = "index.html"
CONFIGURATION = "app-config.js"
MAIN_SCRIPT = re.compile(r"app\.bundle\.[0-9a-f]{8,}\.js")
MAIN_STYLE = "app.bundle.css"
# How the bundler writes where scripts, workers and WebAssembly are, and fonts of style sheets.
PUBLIC_PATH = re.compile(rb'(__webpack_require__\.p = )"/"')
URL_OF_STYLE = re.compile(rb"url\(/(?!/)")
PREFIX_BYTES = PREFIX.encode("ascii")

# No script inside the page, so that none need be allowed; no manifest and no icons of telephones.
HTML = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>OHIF Viewer</title>
<link rel="icon" href="{PREFIX}assets/favicon-32x32.png">
<link rel="stylesheet" href="{PREFIX}{MAIN_STYLE}">
<script src="{PREFIX}{CONFIGURATION}"></script>
<script defer src="{PREFIX}%s"></script>
</head>
<body>
<noscript>The viewer needs JavaScript.</noscript>
<div id="react-portal"></div>
<div id="root"></div>
</body>
</html>
"""

# Nothing but the DICOMweb of the origin that serves it; no source that a URL could name. Results open unasked.
CONFIGURATION_TEXT = f"""window.PUBLIC_URL = '{PREFIX}';
function browserImportFunction(name) {{ return import(name); }}
window.config = {{
  routerBasename: '{PREFIX}',
  extensions: [],
  modes: [],
  customizationService: {{ 'ohif.tours': {{ $set: [] }} }},
  investigationalUseDialog: {{ option: 'configure', days: 90 }},
  disableConfirmationPrompts: true,
  showStudyList: true,
  showErrorDetails: 'production',
  maxNumberOfWebWorkers: 3,
  strictZSpacingForVolumeViewport: true,
  defaultDataSourceName: 'dicomweb',
  dataSources: [{{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
    sourceName: 'dicomweb',
    configuration: {{
      friendlyName: 'radnode', name: 'radnode',
      wadoUriRoot: '/dicom-web', qidoRoot: '/dicom-web', wadoRoot: '/dicom-web',
      qidoSupportsIncludeField: true, supportsFuzzyMatching: true, supportsWildcard: true,
      imageRendering: 'wadors', thumbnailRendering: 'wadors', enableStudyLazyLoad: true,
      omitQuotationForMultipartRequest: true, bulkDataURI: {{ enabled: true }},
    }},
  }}],
}};
"""


def make_ready(folder: Path) -> None:
    """Let unpacked files find each other below `PREFIX`, and write page and configuration.

    Raises
    ------
    PackageRefused
        If they are not built as expected.
    """
    scripts = [path.name for path in folder.iterdir() if MAIN_SCRIPT.fullmatch(path.name)]
    if len(scripts) != 1 or not (folder / MAIN_STYLE).is_file():
        raise PackageRefused("the package has no one main script with its style; install the version that is pinned")
    changed = sum(_rewrite(path, PUBLIC_PATH, rb'\1"' + PREFIX_BYTES + rb'"') for path in folder.glob("*.js"))
    if not changed:
        raise PackageRefused("the scripts do not say where they are; install the version that is pinned")
    for path in folder.glob("*.css"):
        _rewrite(path, URL_OF_STYLE, rb"url(" + PREFIX_BYTES)
    (folder / PAGE).write_text(HTML % scripts[0], encoding="utf-8")
    (folder / CONFIGURATION).write_text(CONFIGURATION_TEXT, encoding="utf-8")


def _rewrite(path: Path, found: re.Pattern[bytes], becomes: bytes) -> int:
    content, count = found.subn(becomes, path.read_bytes())
    if count:
        path.write_bytes(content)
    return count
