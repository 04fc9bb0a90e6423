"""Proof of a presentation state: what it draws lies inside the images that it names."""

from collections.abc import Iterator, Sequence

from pydicom import Dataset

from workers.encoding.header_values import read_text
from workers.proving.inventory import Inventory
from workers.proving.originals import Original, Originals
from workers.proving.proof import Contradiction

PIXEL = "PIXEL"
MARGIN = 0.5


def prove_graphics(ds: Dataset, inventory: Inventory, originals: Originals) -> Iterator[Contradiction]:
    """Yield graphics that leave the images to which they apply.

    References
    ----------
    DICOM PS3.3 C.10.5
    """
    everywhere = [one.sop_instance_uid for one in inventory.references]
    for number, annotation in enumerate(ds.get("GraphicAnnotationSequence") or (), start=1):
        named = [
            read_text(item, "ReferencedSOPInstanceUID") for item in annotation.get("ReferencedImageSequence") or ()
        ]
        images = [one for uid in named or everywhere if (one := originals.by_uid.get(uid)) is not None]
        for graphic in annotation.get("GraphicObjectSequence") or ():
            if graphic.GraphicAnnotationUnits == PIXEL and not _is_inside(graphic.GraphicData, images):
                yield Contradiction(
                    thing=f"graphic annotation {number}",
                    expected="points inside the image",
                    found="points outside",
                    remedy="Write columns before rows, counted in pixels of the image that is named.",
                )


def _is_inside(points: Sequence[float], images: Sequence[Original]) -> bool:
    columns, rows = [float(value) for value in points[::2]], [float(value) for value in points[1::2]]
    return all(
        min(columns) >= -MARGIN
        and max(columns) <= image.columns + MARGIN
        and min(rows) >= -MARGIN
        and max(rows) <= image.rows + MARGIN
        for image in images
    )
