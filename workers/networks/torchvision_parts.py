"""The two parts of torchvision that MONAI's RetinaNet asks for: there is no torchvision here."""

from collections import OrderedDict
from collections.abc import Mapping
from types import SimpleNamespace

from monai.apps.detection.networks import retinanet_network
from monai.networks.blocks import backbone_fpn_utils
from torch import Tensor, nn

ALL_LAYERS = 5


class LayerGetter(nn.ModuleDict):
    """The layers of a backbone up to the last that is wanted; answers what the wanted ones give.

    Names of parameters are those of torchvision's IntermediateLayerGetter, so that published weights fit.

    Parameters
    ----------
    return_layers
        Name of a layer to its name in the answer.
    """

    def __init__(self, model: nn.Module, return_layers: Mapping[str, str]) -> None:
        wanted, layers = set(return_layers), OrderedDict[str, nn.Module]()
        for name, module in model.named_children():
            layers[name] = module
            wanted.discard(name)
            if not wanted:
                break
        super().__init__(layers)
        self._names = dict(return_layers)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of the wanted layers, by their names in the answer."""
        features = OrderedDict[str, Tensor]()
        for name, module in self.items():
            images = module(images)
            if name in self._names:
                features[self._names[name]] = images
        return features


def count_trainable_layers(
    is_pretrained: bool,
    trainable_backbone_layers: int | None,
    max_value: int = ALL_LAYERS,
    default_value: int = 3,
) -> int:
    """Return how many layers of a backbone would learn; without weights of its own all of them."""
    if not is_pretrained:
        return max_value
    return default_value if trainable_backbone_layers is None else trainable_backbone_layers


def provide_torchvision_parts() -> None:
    """Give MONAI the two parts where it looks for them; again and again it makes no difference."""
    retinanet_network._validate_trainable_layers = count_trainable_layers
    backbone_fpn_utils.torchvision_models = SimpleNamespace(_utils=SimpleNamespace(IntermediateLayerGetter=LayerGetter))
