# The demo's scenes: the default pool beside what it is made of; `python tools/run_demo.py --seeds 0` writes the data.
# See docs/pool.md.
folder = 'configs/demo/'
pair = 'fpn_r18w32-r18w16_demo-64x128.py'
auto = 'model.distillers.auto.'
metric = 'mIoU'
split = 'val'
seeds = [0, 1, 2]
rows = [
    dict(name='teacher', config=folder + 'fpn_r18w32_demo-64x128.py', checkpoint=folder + 'fpn_r18w32_demo-64x128.pth',
         seeds=[0]),
    dict(name='student alone', config=folder + 'fpn_r18w16_demo-64x128.py'),
    dict(name='KD', label='KD (CWD)', config=folder + 'cwd_' + pair),
    dict(name='MGD', label='MGD-AMP', config=folder + 'mgd-amp_' + pair),
    dict(name='MGD and KD', label='MGD-AMP + KD, by hand', config=folder + 'mgd-amp-cwd_' + pair),
    dict(name='auto', config=folder + 'auto_' + pair),
    dict(name='auto, searched', label='auto, searched in the run', config=folder + 'auto_' + pair,
         overrides={auto + 'searched': 0.15}),
    dict(name='auto, online', config=folder + 'auto_' + pair, overrides={auto + 'online': True}),
]
del folder, pair, auto
