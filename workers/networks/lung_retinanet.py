"""MONAI's RetinaNet on a 3D ResNet-50, as lung_nodule_ct_detection publishes it."""

from monai.apps.detection.networks.retinanet_network import RetinaNet, resnet_fpn_feature_extractor
from monai.networks.nets.resnet import resnet50
from torch import nn

from workers.networks.torchvision_parts import provide_torchvision_parts

NUM_ANCHORS = 3
SIZE_DIVISIBLE = (16, 16, 8)


def build_lung_retinanet() -> nn.Module:
    """Return the network with random weights: (batch, 1, x, y, z), 0..1, to logits and boxes a level."""
    provide_torchvision_parts()
    backbone = resnet50(spatial_dims=3, n_input_channels=1, conv1_t_stride=[2, 2, 1], conv1_t_size=[7, 7, 7])
    extractor = resnet_fpn_feature_extractor(backbone, 3, False, [1, 2], None)
    network: nn.Module = RetinaNet(
        spatial_dims=3,
        num_classes=1,
        num_anchors=NUM_ANCHORS,
        feature_extractor=extractor,
        size_divisible=SIZE_DIVISIBLE,
    )
    return network
