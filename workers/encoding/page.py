"""The summary page: one picture a radiologist reads at a glance."""

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from workers.encoding.canvas import Canvas
from workers.encoding.page_findings import draw_findings
from workers.encoding.page_frame import HEIGHT, WIDTH, PageContext
from workers.encoding.page_nothing import draw_nothing
from workers.encoding.page_radiograph import draw_radiograph
from workers.encoding.provenance import Provenance
from workers.pipelines.base import Analysis


def draw_page(analysis: Analysis, provenance: Provenance, *, header: Dataset, source: Dataset) -> NDArray[np.uint8]:
    """Return the page, (1200, 1600, 3) uint8 RGB.

    Parameters
    ----------
    header
        Complete header of `source`.
    source
        The first reference slice, or the radiograph with Pixel Data.

    Raises
    ------
    PixelsUndecodable
        If the radiograph cannot be decoded again.
    """
    context = PageContext(canvas=Canvas(WIDTH, HEIGHT), analysis=analysis, provenance=provenance, header=header)
    if analysis.reference is None:
        draw_radiograph(context, source)
    elif analysis.findings:
        draw_findings(context)
    else:
        draw_nothing(context, analysis.reference)
    return context.canvas.pixels()
