# Conventional feature distillation: the last block of each stage in place of a searched aggregation.
_base_ = './dfa_pspnet_r18-r18w16-d8_1k_camvid-128x176.py'
model = dict(distillers=dict(dfa=dict(aggregation='last')))
