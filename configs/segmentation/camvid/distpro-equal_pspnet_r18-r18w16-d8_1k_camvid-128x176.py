# The same pathways with equal weights.
_base_ = './distpro_pspnet_r18-r18w16-d8_1k_camvid-128x176.py'
model = dict(distillers=dict(distpro=dict(mode='equal')))
