"""The summary page: one picture a radiologist reads at a glance."""

from pydicom import Dataset

from workers.drawing.canvas import Canvas, Drawing
from workers.drawing.page_findings import draw_findings
from workers.drawing.page_frame import HEIGHT, WIDTH, PageContext
from workers.drawing.page_nothing import draw_nothing
from workers.drawing.page_radiograph import draw_radiograph
from workers.pipelines.base import Analysis
from workers.provenance import Provenance


def draw_page(analysis: Analysis, provenance: Provenance, *, header: Dataset) -> Drawing:
    """Return the page, 1600 × 1200.

    Parameters
    ----------
    header
        Of the first reference slice, or of the radiograph; complete and in UTF-8.

    Raises
    ------
    ResultCheckFailed
        If something was found in a Volume and there is no mask.
    """
    context = PageContext(canvas=Canvas(WIDTH, HEIGHT), analysis=analysis, provenance=provenance, header=header)
    if analysis.radiograph is not None:
        draw_radiograph(context, analysis.radiograph)
    elif analysis.reference is not None and not analysis.findings:
        draw_nothing(context, analysis.reference)
    else:
        draw_findings(context)
    return context.canvas.finish()
