"""Which task each loss is for, and what is compared there."""
from mmkd_plugin.losses import FeatureLoss, loss_names

TASKS = dict(
    mmpretrain=dict(l2='backbone.layer4', hcl='backbone.layer3', at='backbone.layer4', nst='backbone.layer4',
                    sp='backbone.layer4', ft='backbone.layer4', ab='backbone.layer4@preact', ofd='backbone.layer4@preact',
                    vid='backbone.layer4', crd='neck', pkt='neck', rkd_distance='neck', rkd_angle='neck'),
    mmdet=dict(pkd='neck[0]', fgd='neck[0]', masked_generative='neck[1]', l1='backbone.layer4'),
    mmseg=dict(cwd='decode_head.conv_seg', skd_pairwise='backbone.layer4', cirkd_pixel='backbone.layer4',
               cirkd_channel='backbone.layer4', ifvd='decode_head.conv_seg@in', cosine='backbone.layer4'))
FEATURES = [(scope, name, tap) for scope, taps in TASKS.items() for name, tap in taps.items()]
LOGITS = [('mmpretrain', name, 'head.fc') for name in ('kl', 'dkd', 'nkd', 'wsld', 'dist', 'mlkd')] + [
    ('mmseg', name, 'decode_head.conv_seg') for name in ('kl', 'dkd', 'nkd', 'wsld', 'dist')]
CONFIGS = dict(crd=dict(type='crd', images=16, width=8, negatives=4))
"""What a loss needs beside its name."""


def distiller(name, tap, **options):
    """Config of a distiller with one loss."""
    kind = 'FeatureDistiller' if name in loss_names(FeatureLoss) else 'LogitsDistiller'
    return dict(type=f'mmkd.{kind}', pairs=[tap], loss=CONFIGS.get(name, name), **options)
