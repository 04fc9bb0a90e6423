"""OHIF in headless Chromium, as the node itself serves it: what a radiologist would see of a Result."""

import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from node.domain.account import Role
from node.viewer.address import PREFIX, viewer_url
from node.web.rights import PLAIN_COOKIE
from tests.peers import require_browser
from tests.websites import Website

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
        self.page.goto(f"{self.base_url}{viewer_url(study_instance_uid)}", wait_until="domcontentloaded")
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
def open_viewer(site: Website) -> Iterator[Viewer]:
    """Start a browser of its own, in which somebody has logged in who may read, and close it at the end."""
    user = site.services.registry.add_user("reader", Role.VIEWER, password=None, by="test")
    secret = site.services.doorkeeper.admit(user, address="127.0.0.1")
    base_url = f"http://127.0.0.1:{site.port}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require_browser(), args=list(BROWSER_OPTIONS))
        try:
            page = browser.new_page(viewport={"width": WINDOW[0], "height": WINDOW[1]})
            page.context.add_cookies([{"name": PLAIN_COOKIE, "value": secret, "url": base_url}])
            failures: list[str] = []
            page.on("pageerror", lambda error: failures.append(str(error)))
            page.goto(f"{base_url}{PREFIX}", wait_until="domcontentloaded")
            page.get_by_role("button", name="Confirm and hide").click(timeout=SEEN_LIMIT_S * 1000)
            yield Viewer(page=page, base_url=base_url, failures=failures)
        finally:
            browser.close()
