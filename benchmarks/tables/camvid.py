# CamVid, test split; `python tools/dataset_converters/camvid.py SOURCE` first.
folder = 'configs/segmentation/camvid/'
pair = 'pspnet_r18-r18w16-d8_'
taught = {'model.teacher.checkpoint': '{teacher}'}
process = {**taught, 'model.distillers.distpro.process': '{DistPro search:process.json}'}
aggregation = {**taught, 'model.distillers.dfa.aggregation': '{DFA search:aggregation.json}'}
metric = 'mIoU'
split = 'test'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', label='teacher: PSPNet R18-d8', config=folder + 'pspnet_r18-d8_1k_camvid-128x176.py', seeds=[0]),
    dict(name='student alone', label='student alone: the same at a quarter of the width',
         config=folder + 'pspnet_r18w16-d8_1k_camvid-128x176.py'),
    dict(name='MGD-AMP', config=folder + f'mgd-amp_{pair}1k_camvid-128x176.py', overrides=taught),
    dict(name='KD', config=folder + f'kd_{pair}1k_camvid-128x176.py', overrides=taught),
    dict(name='MGD-AMP + KD', config=folder + f'mgd-amp-kd_{pair}1k_camvid-128x176.py', overrides=taught),
    dict(name='DistPro search', config=folder + f'distpro_{pair}1k_camvid-128x176.py', stage='search', overrides=taught,
         seeds=[0]),
    dict(name='DistPro', config=folder + f'distpro_{pair}1k_camvid-128x176.py', overrides=process),
    dict(name='DistPro, equal weights', label="DistPro's pathways, equal weights",
         config=folder + f'distpro-equal_{pair}1k_camvid-128x176.py', overrides=taught),
    dict(name='DFA search', config=folder + f'dfa_{pair}1k_camvid-128x176.py', stage='search', overrides=taught, seeds=[0]),
    dict(name='DFA', config=folder + f'dfa_{pair}1k_camvid-128x176.py', overrides=aggregation),
    dict(name='DFA, last', label="the last block of each stage (DFA's `aggregation='last'`)",
         config=folder + f'dfa-last_{pair}1k_camvid-128x176.py', overrides=taught),
]
del folder, pair, taught, process, aggregation
