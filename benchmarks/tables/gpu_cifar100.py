# What benchmarks/gpu.sh runs: all of CIFAR-100 with pairs of DistPro's and DFA's papers; see docs/benchmarks.md, On a GPU.
# The schedules are the configs', in proportion to EPOCHS, a variable of the environment.
def epochs(part=1.0):
    """A part of the epochs of a training, at least one."""
    return max(1, round(part * int('{{$EPOCHS:30}}')))


def schedule(length, *milestones):
    """So many epochs, the steps of the rate at these parts of them, and a checkpoint after each."""
    steps = ', '.join(str(max(1, round(part * length))) for part in milestones)
    return {'train_cfg.max_epochs': length, 'train_cfg.val_interval': length, 'default_hooks.checkpoint.interval': 1,
            'default_hooks.checkpoint.max_keep_ckpts': 2, **({'param_scheduler.milestones': f'[{steps}]'} if steps else {})}


def on_device(searched=None):
    """The training images on the device; for a search a part of them, the rest is to judge it."""
    images = {'type': 'CIFAR100', 'data_root': 'data/cifar100', 'split': 'train', 'download': False}
    if searched is not None:
        images = {'type': 'mmkd.SplitDataset', 'part': 'train', 'ratio': searched,
                  **{f'dataset.{key}': value for key, value in images.items()}}
    loader = {'num_workers': 0, 'persistent_workers': False, 'collate_fn.type': 'default_collate', 'dataset._delete_': True,
              'dataset.type': 'mmkd.ImagesOnDevice', 'dataset.padding': 4, 'dataset.flip': 0.5,
              **{f'dataset.dataset.{key}': value for key, value in images.items()}}
    return {f'train_dataloader.{key}': value for key, value in loader.items()}


def bf16():
    """Mixed precision. Searches do without."""
    return {'optim_wrapper.type': 'AmpOptimWrapper', 'optim_wrapper.dtype': 'bfloat16', 'optim_wrapper.loss_scale': '1.0'}


def instead(name, weight_of_labels=1.0, **options):
    """Another distiller in place of the config's."""
    return {'model.distillers._delete_': True, 'model.student.head.loss.loss_weight': weight_of_labels,
            **{f'model.distillers.{name}.{key.replace("__", ".")}': value for key, value in options.items()}}


def rows_of(pair, teacher, student, distilled, steps, searching, searched):
    """The rows that every pair has, whose names begin with its own, and a function that makes another of distillation."""
    whole = {**on_device(), **schedule(epochs(), *steps), **bf16()}
    taught = {'model.teacher.checkpoint': f'{{{pair}, teacher}}'}

    def row(name, config, *changes, **more):
        overrides = {key: value for part in changes for key, value in part.items()}
        return dict(name=f'{pair}, {name}', config='configs/classification/cifar100/' + config, overrides=overrides, **more)

    def distil(name, changes, config=distilled):
        return row(name, config, whole, taught, changes)

    # RepDistiller's weights, and those of the release of logit standardisation: 1 for the task, 9, T = 2.
    kd = dict(type='mmkd.LogitsDistiller', pairs='[head.fc]')
    standardised = dict(kd, loss__type='kl', loss__temperature=2.0, loss__standardise=True, loss_weight=9.0)
    return [
        row('teacher', teacher, whole, seeds=[0]),
        row('alone', student, whole),
        distil('KD', instead('kd', 0.1, **kd, temperature=4.0, loss_weight=0.9)),
        distil('KD, standardised', instead('kd', 1.0, **standardised)),
        row('search', distilled, on_device(searched), searching, taught, stage='search', seeds=[0])], distil


def distpro_rows(pair, teacher, student, networks):
    """The rows of a pair of DistPro's paper."""
    rows, distil = rows_of(pair, teacher + '_240e_cifar100.py', student + '_240e_cifar100.py',
                           f'distpro_{networks}_240e_cifar100.py', (0.625, 0.75, 0.875),
                           schedule(epochs(1 / 6), 0.25, 0.5, 0.75), 0.8)
    stages = '[backbone.layer1@preact, backbone.layer2@preact, backbone.layer3@preact]'
    found = {'model.distillers.distpro.process': f'{{{pair}, search:process.json}}'}
    return rows + [
        distil('ReviewKD', {'model.distillers.review.warmup': 391 * epochs(1 / 12)},
               f'reviewkd_{networks}_240e_cifar100.py'),
        distil('MGD-AMP', instead('mgd', type='mmkd.MatchingGuidedDistiller', pairs=stages, reduction='mean',
                                  loss_scale='auto')),
        distil('DistPro', found),
        distil('DistPro, alpha_T', {**found, 'model.distillers.distpro.mode': 'final'}),
        distil('DistPro, equal', {'model.distillers.distpro.mode': 'equal'})]


def dfa_rows(pair, networks):
    """The rows of a pair of DFA's paper."""
    # The search is longer than in proportion: a group wants lr * iterations of 2 at least.
    rows, distil = rows_of(pair, 'wrn-28-4_200e_cifar100.py', 'wrn-16-2_200e_cifar100.py',
                           f'dfa_{networks}_200e_cifar100.py', (0.3, 0.6, 0.8), schedule(epochs(1 / 3)), 0.7)
    found = {'DFA': f'{{{pair}, search:aggregation.json}}', 'DFA, last': 'last', 'DFA, average': 'average'}
    return rows + [distil(name, {'model.distillers.dfa.aggregation': value}) for name, value in found.items()]


metric = 'accuracy/top1'
split = 'test'
seeds = [0, 1]
rows = [*distpro_rows('WRN-16-2 by WRN-40-2', 'wrn-40-2', 'wrn-16-2', 'wrn-40-2-wrn-16-2'),
        *distpro_rows('ResNet20 by ResNet56', 'resnet56', 'resnet20', 'resnet56-resnet20'),
        *dfa_rows('WRN-16-2 by WRN-28-4', 'wrn-28-4-wrn-16-2')]
