"""The summary page: one picture a radiologist reads at a glance."""

from pydicom import Dataset

from workers.encoding.canvas import Canvas, Drawing
from workers.encoding.headers import copy_header
from workers.encoding.page_findings import draw_findings
from workers.encoding.page_frame import HEIGHT, WIDTH, PageContext
from workers.encoding.page_nothing import draw_nothing
from workers.encoding.page_radiograph import draw_radiograph
from workers.encoding.provenance import Provenance
from workers.pipelines.base import Analysis


def draw_page(analysis: Analysis, provenance: Provenance, *, source: Dataset) -> Drawing:
    """Return the page, 1600 × 1200.

    Parameters
    ----------
    source
        The first reference slice, or the radiograph.

    Raises
    ------
    ResultCheckFailed
        If something was found in a Volume and there is no mask.
    """
    header = copy_header(source)
    context = PageContext(canvas=Canvas(WIDTH, HEIGHT), analysis=analysis, provenance=provenance, header=header)
    if analysis.radiograph is not None:
        draw_radiograph(context, analysis.radiograph)
    elif analysis.reference is not None and not analysis.findings:
        draw_nothing(context, analysis.reference)
    else:
        draw_findings(context)
    return context.canvas.finish()
