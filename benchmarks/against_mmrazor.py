"""A distilled step of mmrazor 1.0 and of this package, in turn in one process.

usage: python benchmarks/against_mmrazor.py [--rounds 15] [--threads 2]

PSPNet R101-d8 -> R18-d8, 128x256, batch 2, random weights; one tap, the output of ``backbone.layer4``; a 1x1 convolution
of the student's feature to the teacher's 2048 channels; the mean squared difference. All start from the same weights, and
the script ends if their losses differ. mmrazor is measured twice: as its PSPNet config has it (``SingleTeacherDistill``, the
teacher runs its heads and losses), and with ``FpnTeacherDistill``, where the teacher ends with its backbone. Each step is
divided by the student's alone plus the teacher's forward to the tap.

mmrazor has to be installed: ``pip install --no-deps mmrazor==1.0.0 && pip install ordered-set``.
"""
import argparse
import sys
from types import ModuleType
from typing import Any, Callable, Dict, Tuple

import torch
from measuring import device_name, in_turn, print_table
from mmengine.registry import MODELS, init_default_scope
from overhead import PAIRS, make_batch, without_downloads
from torch import nn

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.utils.config import load_config
from mmkd_plugin.utils.launch import replace_sync_bn

STUDENT = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'
TEACHER = 'mmseg::pspnet/pspnet_r101-d8_4xb2-80k_cityscapes-512x1024.py'
TAP, CHANNELS = 'backbone.layer4', (512, 2048)
QUANTISATION = ('mmrazor.structures.quantization', 'mmrazor.structures.quantization.backend_config')
INSTALL = 'mmrazor is not installed: pip install --no-deps mmrazor==1.0.0 && pip install ordered-set'
OURS = 'mmkd_plugin'


class Unused(ModuleType):
    """Stands in for a part of mmrazor that no distillation uses: every name in it is an empty class."""
    __all__ = ()
    __path__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return type(name, (), {})


def import_mmrazor() -> None:
    """Imports mmrazor's models. Its quantisation asks for names that torch has no longer, and is left out."""
    try:
        import mmrazor  # noqa: F401
    except ImportError:
        sys.exit(INSTALL)
    sys.modules.update({name: Unused(name) for name in QUANTISATION})
    import mmrazor.models  # noqa: F401


def network(reference: str) -> dict:
    """The config of a network of mmseg, to be built with random weights."""
    cfg = load_config(reference, 'benchmark')
    init_default_scope(cfg.default_scope)
    model = cfg.model.to_dict()
    replace_sync_bn(model)
    without_downloads(model)
    return dict(model, _scope_=cfg.default_scope)


def mmrazor_model(kind: str) -> dict:
    """mmrazor's config: recorders, a connector, a loss, and what goes where."""
    recorder = dict(feature=dict(type='mmrazor.ModuleOutputs', source=TAP))
    return dict(
        type=f'mmrazor.{kind}', architecture=network(STUDENT), teacher=network(TEACHER),
        distiller=dict(
            type='mmrazor.ConfigurableDistiller', student_recorders=recorder, teacher_recorders=recorder,
            connectors=dict(adapter=dict(type='mmrazor.ConvModuleConnector', in_channel=CHANNELS[0],
                                         out_channel=CHANNELS[1], norm_cfg=None, act_cfg=None)),
            distill_losses=dict(loss_l2=dict(type='mmrazor.L2Loss', normalize=False, div_element=True)),
            loss_forward_mappings=dict(loss_l2=dict(
                s_feature=dict(recorder='feature', from_student=True, connector='adapter'),
                t_feature=dict(recorder='feature', from_student=False)))))


def our_model() -> dict:
    """The same in a config of this package."""
    return dict(type='mmkd.DistilledModel', student=network(STUDENT),
                teacher=dict(config=network(TEACHER), allow_random_weights=True),
                distillers=dict(l2=dict(type='mmkd.FeatureDistiller', pairs=[TAP])))


def build() -> Tuple[nn.Module, Dict[str, nn.Module]]:
    """The plain student, and the distilled ones by name, with the same weights."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    plain, ours = (MODELS.build(cfg).to(device).train() for cfg in (network(STUDENT), our_model()))
    ours.attach_distillation()
    models = {OURS: ours}
    for kind in ('SingleTeacherDistill', 'FpnTeacherDistill'):
        model = models[f'mmrazor, {kind}'] = MODELS.build(mmrazor_model(kind)).to(device)
        model.train()  # which returns nothing there
        model.architecture.load_state_dict(ours.state_dict())
        model.teacher.load_state_dict(ours.distillation.teacher.model.state_dict())
        model.distiller.connectors.adapter.conv_module.conv.load_state_dict(
            ours.distillation.l2.adapters[0].state_dict())
    return plain, models


def distillation_loss(model: nn.Module, data: dict) -> float:
    """The first loss of distillation that is logged."""
    _, log = model.parse_losses(model(**data, mode='loss'))
    return next(float(value.detach()) for name, value in log.items() if name.startswith(('l2.', 'distill.')))


def training_step(model: nn.Module, data: dict) -> Callable[[], None]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=1e-4, momentum=.9)

    def step() -> None:
        losses = model(**data, mode='loss')
        optimiser.zero_grad()
        model.parse_losses(losses)[0].backward()
        optimiser.step()
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    args = parser.parse_args()
    import_mmrazor()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    plain, models = build()
    data = make_batch(plain, PAIRS['pspnet'])
    losses = {name: distillation_loss(model, data) for name, model in models.items()}
    if max(losses.values()) > min(losses.values()) * (1 + 1e-4):
        sys.exit(f'The losses differ, so the steps are not comparable: {losses}')
    teacher = models[OURS].distillation.teacher
    measured = in_turn({'student': training_step(plain, data),
                        'teacher': lambda: teacher.features(data['inputs'], data['data_samples']),
                        **{name: training_step(model, data) for name, model in models.items()}}, args.rounds)
    print(f'torch {torch.__version__}, {device_name(args.threads)}, {args.rounds} rounds; the loss of all: '
          f'{losses[OURS]:.5g}\n')
    print_table(measured, ('student', 'teacher'), '(student + teacher)')


if __name__ == '__main__':
    main()
