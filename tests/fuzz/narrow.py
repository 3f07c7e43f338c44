"""Small stand-ins for the networks of the shipped configs: the same classes, blocks and module names, fewer channels."""
from typing import Any, Dict

WIDTHS = ('in_channels', 'out_channels', 'feat_channels', 'channels', 'c1_in_channels', 'c1_channels', 'conv_out_channels',
          'fc_out_channels', 'embed_dims', 'feedforward_channels', 'num_feats', 'embed_dim', 'feature_dim', 'stem_channels',
          'base_channels', 'mask_feature_channels')
FACTOR = 8
DEPTH_FACTOR = 4  # its heads have groups of 16
GROUPS = 4
RESNETS = ('ResNet', 'ResNetV1c', 'ResNetV1d')
CIFAR_WIDENED = ('mmkd.CIFARResNet', 'mmkd.WideResNet')
TOKENS = dict(embed_dims=48, num_layers=12, num_heads=3, feedforward_channels=64)


def narrowed(model: Dict[str, Any], image) -> Dict[str, Any]:
    """The config of a model, in plain dicts, with narrow layers and random weights in place of downloads."""
    model = without_downloads(model)
    backbone = model['backbone']
    kind = backbone['type'].split('::')[-1]
    if kind in RESNETS and backbone.get('base_channels', 64) == 64:
        backbone.setdefault('base_channels', 64)
        backbone.setdefault('stem_channels', 64)
        model = divided(model, DEPTH_FACTOR if model['type'] == 'DepthEstimator' else FACTOR)
    elif kind in CIFAR_WIDENED and 'widen_factor' in backbone:
        backbone['widen_factor'] = 2  # of 1 they are built otherwise
        model['head']['in_channels'] = 128
    elif kind == 'VisionTransformer':
        backbone.update(arch=dict(TOKENS), img_size=image[0])
        if model['head'] is not None:  # a backbone alone has none
            model['head']['in_channels'] = TOKENS['embed_dims']
    if model['type'] == 'DeformableDETR':
        shorten_detr(model)
    if model['type'] == 'DepthEstimator':
        model['decode_head'].update(embed_dim=16, feature_dim=128)
    if kind == 'MobileNetV2' and model['type'] == 'EncoderDecoder':
        model['decode_head']['channels'] = model['auxiliary_head']['channels'] = 16
    return model


def without_downloads(node: Any) -> Any:
    """A copy in plain dicts and lists, without the addresses of pretrained weights and without weights of classes."""
    if isinstance(node, dict):
        if node.get('type') == 'Pretrained':
            return None
        changed = {key: without_downloads(value) for key, value in node.items() if key != 'class_weight'}
        changed.update(pretrained=None) if 'pretrained' in node else None
        return dict(changed, type='BN') if node.get('type') == 'SyncBN' else changed
    if isinstance(node, (list, tuple)):
        return type(node)(map(without_downloads, node))
    return node


def divided(node: Any, factor: int, key: str = '') -> Any:
    """A copy in which what says a number of channels is so many times smaller."""
    if isinstance(node, dict):
        return {name: divided(value, factor, name) for name, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(divided(value, factor, key) for value in node)
    if key == 'num_groups':
        return min(node, GROUPS)
    return node // factor if key in WIDTHS and isinstance(node, int) and node >= 32 else node


def shorten_detr(model: Dict[str, Any]) -> None:
    """A transformer of few layers and queries."""
    model['encoder']['num_layers'] = model['decoder']['num_layers'] = 2
    model['num_queries'] = 20
    model['bbox_head']['embed_dims'] = model['neck']['out_channels']
