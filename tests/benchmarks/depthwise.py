"""A small network of MobileNetV2's blocks, initialized as torchvision initializes them: see `depthwise.yaml`."""

from torch import nn

WIDER = 4  # times the channels of its inputs, a block has inside
BLOCKS = ((8, 1), (16, 2), (16, 1), (24, 2), (24, 1))  # channels of outputs, and stride


class Block(nn.Module):
    """An inverted residual block: more channels, a convolution of each by itself, fewer channels."""

    def __init__(self, inputs, outputs, stride, norm):
        super().__init__()
        wide = WIDER * inputs
        self.expand = nn.Conv2d(inputs, wide, 1, bias=not norm)
        self.depthwise = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=not norm)
        self.project = nn.Conv2d(wide, outputs, 1, bias=not norm)
        self.norms = nn.ModuleList([nn.BatchNorm2d(size) if norm else nn.Identity() for size in (wide, wide, outputs)])
        self.relu = nn.ReLU6()
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x):
        inner = self.relu(self.norms[0](self.expand(x)))
        inner = self.relu(self.norms[1](self.depthwise(inner)))
        inner = self.norms[2](self.project(inner))
        return x + inner if self.adds else inner


def build(shape, outputs, norm=True):
    """Return the network for images of a shape (channels, height, width), with batch normalization or without."""
    width = BLOCKS[0][0]
    stem = nn.Conv2d(shape[0], width, 3, padding=1, bias=not norm)
    blocks = []
    for given, stride in BLOCKS:
        blocks.append(Block(width, given, stride, norm))
        width = given
    model = nn.Sequential(
        *(stem, nn.BatchNorm2d(BLOCKS[0][0]) if norm else nn.Identity(), nn.ReLU6(), *blocks),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs)),
    )
    for module in model.modules():  # as torchvision.models.MobileNetV2 does
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    return model
