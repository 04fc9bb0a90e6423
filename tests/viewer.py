"""OHIF in headless Chromium, before the DICOMweb of an Orthanc: what a radiologist would see of a Result."""

import json
import mimetypes
import threading
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.peers import HTTP_LIMIT_S, NO_PROXY, Orthanc, require_browser, require_viewer

DICOMWEB = "/dicom-web"
CONFIGURATION_PATH = "/app-config.js"
# No tour: it would lie over the images.
CONFIGURATION = """
window.config = {
  routerBasename: null,
  extensions: [],
  modes: [],
  customizationService: { 'ohif.tours': { $set: [] } },
  investigationalUseDialog: { option: 'never' },
  disableConfirmationPrompts: true,
  showStudyList: true,
  showErrorDetails: 'always',
  maxNumberOfWebWorkers: 2,
  strictZSpacingForVolumeViewport: true,
  defaultDataSourceName: 'dicomweb',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
    sourceName: 'dicomweb',
    configuration: {
      friendlyName: 'Orthanc', name: 'orthanc',
      wadoUriRoot: '/dicom-web', qidoRoot: '/dicom-web', wadoRoot: '/dicom-web',
      qidoSupportsIncludeField: false, supportsFuzzyMatching: false, supportsWildcard: true,
      imageRendering: 'wadors', thumbnailRendering: 'wadors', enableStudyLazyLoad: true,
      omitQuotationForMultipartRequest: true, bulkDataURI: { enabled: true },
    },
  }],
};
"""
# WebGL in software, and no word to anybody but us.
BROWSER_OPTIONS = (
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
WINDOW = (1280, 900)
SEEN_LIMIT_S = 60.0

# What OHIF's own geometry says; its viewport is the only one on the page.
VIEWPORT = "const view = window.cornerstone.getRenderingEngines()[0].getViewports()[0];"
HAS_VIEWPORT = (
    "() => Boolean(window.cornerstone?.getRenderingEngines()?.[0]?.getViewports()?.[0]?.getImageIds?.().length)"
)
HAS_SEGMENTS = "() => window.cornerstoneTools.segmentation.state.getSegmentations().length > 0"
# As text: number by number, Playwright takes seconds for the voxels of one slice.
TO_CANVAS = f"""text => {{ {VIEWPORT}
  return JSON.stringify(JSON.parse(text).map(point => Array.from(view.worldToCanvas(point)))); }}"""
CANVAS_CORNER = f"() => {{ {VIEWPORT} const box = view.canvas.getBoundingClientRect(); return [box.x, box.y]; }}"
CANVAS_PICTURE = f"() => {{ {VIEWPORT} return view.getCanvas().toDataURL('image/png'); }}"
PLACES = f"""() => {{ {VIEWPORT}
  return view.getImageIds().map(id => window.cornerstone.metaData.get('imagePlaneModule', id))
    .map(plane => [plane.imagePositionPatient, plane.imageOrientationPatient].map(v => Array.from(v)).flat());
}}"""
CURRENT_SLICE = f"() => {{ {VIEWPORT} return view.getCurrentImageIdIndex(); }}"
SHOW_SLICE = f"index => {{ {VIEWPORT} return view.setImageIdIndex(index).then(() => view.render()); }}"


@contextmanager
def serve_viewer(orthanc: Orthanc) -> Iterator[str]:
    """Serve OHIF and, behind the same origin, the DICOMweb of an Orthanc; gives the base URL."""
    folder = require_viewer()

    class Handler(_Handler):
        viewer, archive = folder, orthanc.url

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="viewer")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers GET: files of the Viewer, its configuration, and what the archive answers.

    Attributes
    ----------
    viewer, archive
        Folder of the Viewer; base URL of the archive.
    """

    viewer: Path
    archive: str
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer; a browser that leaves in between is no error."""
        path = urlsplit(self.path).path
        try:
            if path.startswith(DICOMWEB):
                self._forward()
            elif path == CONFIGURATION_PATH:
                self._answer(200, "text/javascript", CONFIGURATION.encode())
            else:
                self._answer_file(path)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_facts: object) -> None:
        """Say nothing."""

    def _forward(self) -> None:
        # Orthanc writes the Host it was asked by into the URLs of its answers.
        kept = {name: self.headers[name] for name in ("Accept", "Host") if name in self.headers}
        request = urllib.request.Request(f"{self.archive}{self.path}", headers=kept)
        try:
            with NO_PROXY.open(request, timeout=HTTP_LIMIT_S) as response:
                self._answer(response.status, response.headers["Content-Type"], response.read())
        except urllib.error.HTTPError as error:
            with error:
                self._answer(error.code, error.headers.get("Content-Type", "text/plain"), error.read())

    def _answer_file(self, path: str) -> None:
        file = self.viewer / path.lstrip("/")
        if not file.is_file():
            # A route inside the application, e.g. /viewer.
            file = self.viewer / "index.html"
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        self._answer(200, kind, file.read_bytes())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """An open OHIF window with one viewport.

    Attributes
    ----------
    failures
        What the page threw and did not catch.
    """

    page: Page
    base_url: str
    failures: list[str]

    def open_series(self, study_instance_uid: str, description: str) -> None:
        """Open a Study and then, by a double click on its entry, the Series of this Series Description."""
        self.page.goto(f"{self.base_url}/viewer?StudyInstanceUIDs={study_instance_uid}", wait_until="domcontentloaded")
        entry = self.page.get_by_text(description)
        entry.wait_for(timeout=SEEN_LIMIT_S * 1000)
        self.page.wait_for_function(HAS_VIEWPORT, timeout=SEEN_LIMIT_S * 1000)
        entry.dblclick()

    def await_segments(self) -> None:
        """Wait until OHIF has read a SEG."""
        self.page.wait_for_function(HAS_SEGMENTS, timeout=SEEN_LIMIT_S * 1000)

    def to_canvas(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where OHIF draws points, (points, 2): x, y in pixels of the canvas.

        Parameters
        ----------
        points_mm
            (points, 3) LPS.
        """
        return np.array(json.loads(self._ask(TO_CANVAS, json.dumps(points_mm.tolist()))), float)

    def canvas_corner(self) -> tuple[float, float]:
        """Return the upper left corner of the canvas on the page; x, y in pixels."""
        x, y = self._ask(CANVAS_CORNER)
        return float(x), float(y)

    def picture(self) -> NDArray[np.int16]:
        """Return what the canvas shows, (rows, columns, 3), without the text around the image."""
        encoded = str(self._ask(CANVAS_PICTURE))
        with Image.open(BytesIO(b64decode(encoded.partition(",")[2]))) as image:
            return np.asarray(image.convert("RGB"), np.int16)

    def screenshot(self) -> Image.Image:
        """Return the whole page."""
        with Image.open(BytesIO(self.page.screenshot())) as image:
            return image.convert("RGB")

    def current_slice(self) -> int:
        """Return the index of the slice that is shown, in OHIF's order."""
        return int(self._ask(CURRENT_SLICE))

    def find_slice(self, point_mm: Sequence[float]) -> int:
        """Return the index of the slice whose plane is nearest to a point (LPS), in OHIF's order."""
        planes = np.array(self._ask(PLACES), float)
        normal = np.cross(planes[0, 3:6], planes[0, 6:9])
        distances = (planes[:, :3] - np.asarray(point_mm, float)) @ normal
        return int(np.abs(distances).argmin())

    def show_slice(self, index: int) -> None:
        """Scroll to a slice."""
        self._ask(SHOW_SLICE, index)

    def _ask(self, expression: str, argument: object = None) -> Any:
        """Return what a function says in the page; OHIF makes its viewport anew for each Series."""
        self.page.wait_for_function(HAS_VIEWPORT, timeout=SEEN_LIMIT_S * 1000)
        return self.page.evaluate(expression, argument)


@contextmanager
def open_viewer(base_url: str) -> Iterator[Viewer]:
    """Start a browser of its own, with an empty profile, and close it at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require_browser(), args=list(BROWSER_OPTIONS))
        try:
            page = browser.new_page(viewport={"width": WINDOW[0], "height": WINDOW[1]})
            failures: list[str] = []
            page.on("pageerror", lambda error: failures.append(str(error)))
            yield Viewer(page=page, base_url=base_url, failures=failures)
        finally:
            browser.close()
