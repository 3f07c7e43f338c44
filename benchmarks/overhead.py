"""What a distilled step costs beside the student's own step and the teacher's forward, as ratios inside one run.

usage: python benchmarks/overhead.py [PAIR] [--rounds 15] [--threads 2] [--amp bfloat16] [--memory]

For a pair of networks from a shipped config: the student's training step and the teacher's forward to the deepest tap, both
plain, and the distilled step: plain, with the formats that measuring chooses (the teacher's ``runtime='auto'``, and
``ChannelsLastHook`` for the student), in every second iteration, and on half of each batch. All are measured in turn, round
by round, since shared machines are noisy; the ratios are to the plain student and the plain teacher together. Peak memory
comes from a fresh process for each row (resident memory on a CPU, allocated memory on a GPU), beyond the networks, which are
built before; what the choice of formats needs, on copies, is in it. Steps are those after the calibration of
``loss_scale='auto'``.
"""
import argparse
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any, Callable, ContextManager, Dict, Mapping

import torch
from measuring import device_name, in_fresh_process, in_turn, peak_memory, print_memory, print_table
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import nn

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.model.format_trial import OTHER, PLAIN, FormatTrial
from mmkd_plugin.runtime import choose
from mmkd_plugin.runtime.memory_format import set_format, unfit_for_channels_last
from mmkd_plugin.utils.config import load_config
from mmkd_plugin.utils.launch import replace_sync_bn

CITYSCAPES = 'mmkd_plugin::segmentation/cityscapes/mgd-amp_pspnet_r101-r18-d8_4xb2-80k_cityscapes-512x1024.py'
CIFAR20 = 'mmkd_plugin::classification/cifar100-20/mgd-amp_resnet14x2-resnet8_8e_cifar100-20.py'
# Three stages by plain L2 with adapters: what is compared costs little beside the networks.
STAGES = dict(mgd=dict(type='mmkd.FeatureDistiller', pairs=[f'backbone.layer{stage}@preact' for stage in (1, 2, 3)]))
PAIRS = {
    # One tap, as in mmrazor's PSPNet config.
    'pspnet': dict(config=CITYSCAPES, distiller=dict(pairs=['backbone.layer4']), image=(128, 256), batch=2),
    'retinanet': dict(config='mmkd_plugin::detection/coco/mgd-amp_retinanet_r50-r18-freeze0_fpn_1x_coco.py',
                      image=(256, 320), padding=(32, 0), batch=2),
    'mobilenet': dict(config='mmkd_plugin::classification/imagenet/mgd-amp_resnet50-mobilenet-v2_8xb32_in1k.py',
                      image=(224, 224), batch=8),
    'resnet8': dict(config=CIFAR20, image=(32, 32), batch=64),
    'wrn': dict(config='mmkd_plugin::classification/cifar100/distpro_wrn-40-2-wrn-16-2_240e_cifar100.py',
                distillers=STAGES, image=(32, 32), batch=64),
}
MEASURED = 'distilled, formats by measuring'
ROWS: Dict[str, Dict[str, Any]] = {
    'distilled': {},
    MEASURED: dict(teacher=dict(runtime='auto'), formats=True),
    'distilled, every=2': dict(distiller=dict(every=2)),
    'distilled, fraction=0.5': dict(distiller=dict(fraction=0.5)),
}
TOGETHER = ('student', 'teacher')
Step = Callable[[], None]
Options = Mapping[str, Any]


def without_downloads(node: Any) -> None:
    """No weights from files in a config."""
    if isinstance(node, dict):
        node.update({key: None for key in ('pretrained', 'init_cfg', 'checkpoint') if key in node})
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        without_downloads(value)


def build(pair: dict, distilled: bool = True, teacher: Options = MappingProxyType({}),
          distiller: Options = MappingProxyType({})) -> nn.Module:
    """The student of a shipped config, plain or distilled, with random weights and changes to its blocks."""
    cfg = load_config(pair['config'], 'benchmark')
    init_default_scope(cfg.default_scope)
    model = cfg.model.to_dict()
    if cfg.get('data_preprocessor') is not None:
        model['student'].setdefault('data_preprocessor', cfg.data_preprocessor.to_dict())
    teachers = load_config(pair.get('teacher', model['teacher']['config']), 'benchmark')._cfg_dict.to_dict()
    for node in (model['student'], teachers):
        replace_sync_bn(node)
        without_downloads(node)
    model['teacher'] = dict(config=teachers, allow_random_weights=True, **teacher)
    own = pair.get('distillers', model['distillers'])['mgd']
    model['distillers'] = dict(mgd={**own, **pair.get('distiller', {}), **distiller})
    for option in ('loss_scale', 'calibration_iters'):  # of the steps after the calibration, which are most of a run
        model['distillers']['mgd'].pop(option, None)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    built = MODELS.build(model if distilled else model['student']).to(device).train()
    if distilled:
        built.attach_distillation()
        match(built.distillation.mgd)
    return built


def match(distiller: nn.Module) -> None:
    """Gives the stages of an MGD a matching without a pass over images."""
    for stage in getattr(distiller, 'stages', ()):
        channels = len(stage.margins)
        stage.assignment.copy_(torch.randperm(channels)[:stage.assignment.numel()].view_as(stage.assignment))
        stage.matched_flag.fill_(True)
        stage.matched = True


def data_sample(scope: str, pair: dict, device: torch.device) -> Any:
    """Ground truth of one image: a label map, boxes in an image with padding, or a class."""
    size = tuple(side - padding for side, padding in zip(pair['image'], pair.get('padding', (0, 0))))
    meta = dict(img_shape=size, ori_shape=size, pad_shape=pair['image'], batch_input_shape=pair['image'])
    if scope == 'mmseg':
        from mmseg.structures import SegDataSample
        labels = PixelData(data=torch.randint(0, 19, (1, *pair['image']), device=device))
        return SegDataSample(metainfo=meta, gt_sem_seg=labels)
    if scope == 'mmdet':
        from mmdet.structures import DetDataSample
        corners = torch.rand(5, 2, device=device) * 100
        boxes = InstanceData(bboxes=torch.cat([corners, corners + 80], 1), labels=torch.arange(5, device=device))
        return DetDataSample(metainfo=meta, gt_instances=boxes)
    from mmpretrain.structures import DataSample
    return DataSample(metainfo=meta).set_gt_label(torch.tensor([1], device=device))


def make_batch(model: nn.Module, pair: dict) -> dict:
    """A batch of random images with ground truth, on the model's device."""
    device = next(model.parameters()).device
    scope = DefaultScope.get_current_instance().scope_name
    return dict(inputs=torch.randn(pair['batch'], 3, *pair['image'], device=device),
                data_samples=[data_sample(scope, pair, device) for _ in range(pair['batch'])])


def autocast_to(amp: str, model: nn.Module) -> ContextManager:
    """Autocast to the type ``amp`` names on the model's device; nothing if it names none."""
    return torch.autocast(next(model.parameters()).device.type, dtype=getattr(torch, amp)) if amp else nullcontext()


def training_step(model: nn.Module, data: dict, amp: str = '') -> Step:
    """What the train loop does with a batch; under autocast to the type ``amp`` names, if any."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=.9)

    def step() -> None:
        with autocast_to(amp, model):
            losses = model(**data, mode='loss')
        optimiser.zero_grad()
        model.parse_losses(losses)[0].backward()
        optimiser.step()
    return step


def choosing_format(step: Step, model: nn.Module, data: dict, amp: str = '') -> Step:
    """A step of a student, before whose first the memory format is taken in which its steps are faster.

    As ``mmkd.ChannelsLastHook`` does, by steps of a copy of the model.
    """
    waiting = [] if unfit_for_channels_last(model) else [model]

    def run() -> None:
        if waiting:
            trial = FormatTrial(waiting.pop(), lambda _: autocast_to(amp, model), data)
            set_format(model, not trial.problem and choose(trial.time(), PLAIN) == OTHER)
        step()
    return run


def two_steps(step: Step) -> Step:
    """An iteration in which a distiller with ``every=2`` acts, and one in which it does not."""
    def both() -> None:
        for iteration in (0, 1):
            MessageHub.get_current_instance().update_info('iter', iteration)
            step()
        MessageHub.get_current_instance().update_info('iter', 0)
    return both


def calls_of(name: str) -> int:
    """How many training steps the callable of a row makes."""
    return ROWS.get(name, {}).get('distiller', {}).get('every', 1)


def make_step(name: str, pair: dict, amp: str = '') -> Step:
    """The callable of a row: on networks and a batch of its own."""
    torch.manual_seed(0)
    if name == 'student':
        model = build(pair, distilled=False)
        return training_step(model, make_batch(model, pair), amp)
    if name == 'teacher':
        model = build(pair)
        teacher, data = model.distillation.teacher, make_batch(model, pair)
        return lambda: teacher.features(data['inputs'], data['data_samples'])
    row = dict(ROWS[name])
    formats = row.pop('formats', False)
    model = build(pair, **row)
    data = make_batch(model, pair)
    step = training_step(model, data, amp)
    if formats:
        step = choosing_format(step, model, data, amp)
    return two_steps(step) if calls_of(name) == 2 else step


def peak_of_step(name: str, pair: dict, threads: int, amp: str) -> float:
    """MiB that steps of this row add at most; its networks are built before."""
    torch.set_num_threads(threads)
    return peak_memory(make_step(name, pair, amp))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pair', nargs='?', choices=PAIRS, default='pspnet')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--amp', default='', choices=['', 'bfloat16', 'float16'], help='autocast of the training steps')
    parser.add_argument('--memory', action='store_true', help='peak memory only, no times')
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pair = PAIRS[arguments.pair]
    print(f'{arguments.pair}: {pair["image"][0]}x{pair["image"][1]}, batch {pair["batch"]}; torch {torch.__version__}, '
          f'{device_name(arguments.threads)}{", autocast to " * bool(arguments.amp)}{arguments.amp}\n')
    names = [*TOGETHER, *ROWS]
    memory = {name: in_fresh_process(peak_of_step, name, pair, arguments.threads, arguments.amp) for name in names}
    if arguments.memory:
        print_memory(memory)
        return
    measured = in_turn({name: make_step(name, pair, arguments.amp) for name in names}, arguments.rounds)
    print_table(measured, TOGETHER, '(student + teacher)', memory, {name: calls_of(name) for name in names})


if __name__ == '__main__':
    main()
