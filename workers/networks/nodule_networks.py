"""Both networks of the lung nodule Pipeline, as its weights file holds them."""

from torch import nn

from workers.networks.nodule_classifier import NoduleClassifier
from workers.networks.nodule_outliner import NoduleOutliner


class NoduleNetworks(nn.Module):
    """The network that tells a nodule from a vessel, and the one that outlines it.

    Attributes
    ----------
    classifier, outliner
        Each is asked by itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.classifier = NoduleClassifier()
        self.outliner = NoduleOutliner()
