"""In which memory format a student trains faster, and what mmkd.ChannelsLastHook would choose.

usage: python benchmarks/formats.py [NETWORK ...] [--rounds 8] [--threads 1]

For each network a training step (forward, losses, backward) in the plain format and in channels_last, in turn, round by
round; the ratio is the median over the rounds, on one thread of a CPU that of its own time. Weights and images are random.
"""
import argparse
import time
from typing import Callable, Dict

import torch
from measuring import device_name
from mmengine.registry import MODELS, init_default_scope
from overhead import make_batch, without_downloads
from torch import nn

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.runtime import choose, interleaved
from mmkd_plugin.runtime.memory_format import set_format, unfit_for_channels_last
from mmkd_plugin.utils.config import load_config
from mmkd_plugin.utils.launch import replace_sync_bn

CIFAR = 'mmkd_plugin::classification/cifar100-20/resnet8_8e_cifar100-20.py'
NETWORKS = {
    'CIFAR ResNet8': dict(config=CIFAR, image=(32, 32), batch=64),
    'CIFAR ResNet20': dict(config=CIFAR, image=(32, 32), batch=64,
                           backbone=dict(depth=20)),
    'WRN-16-2': dict(config='mmkd_plugin::classification/cifar100/wrn-16-2_240e_cifar100.py', image=(32, 32), batch=64),
    'PSPNet R18-d8': dict(config='mmkd_plugin::segmentation/cityscapes/pspnet_r18-d8_4xb2-40k_cityscapes-512x512.py',
                          image=(128, 256), batch=2),
    'MobileNetV2': dict(config='mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py', image=(224, 224), batch=8),
    'RetinaNet R18': dict(config='mmdet::retinanet/retinanet_r18_fpn_1x_coco.py', image=(256, 320), batch=2),
}


def build(network: dict) -> nn.Module:
    """The student of a config, with random weights."""
    cfg = load_config(network['config'], 'benchmark')
    init_default_scope(cfg.default_scope)
    model = cfg.model.to_dict()
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor.to_dict())
    model['backbone'].update(network.get('backbone', {}))
    replace_sync_bn(model)
    without_downloads(model)
    return MODELS.build(model).to('cuda' if torch.cuda.is_available() else 'cpu').train()


def report(name: str, network: dict, rounds: int) -> None:
    """Prints a row of the table."""
    model = build(network)
    data = make_batch(model, network)

    def step() -> None:
        model.parse_losses(model(**data, mode='loss'))[0].backward()

    def begin(which: str) -> None:
        set_format(model, which == 'channels_last')
        model.zero_grad(set_to_none=True)

    reason = unfit_for_channels_last(model)
    if reason:
        print(f'| {name} | | | plain: {reason} |', flush=True)
        return
    calls: Dict[str, Callable[[], None]] = {'plain': step, 'channels_last': step}
    timings = interleaved(calls, rounds, warmup=2, prepare=begin, device=next(model.parameters()).device,
                          clock=time.process_time if torch.get_num_threads() == 1 else time.perf_counter)
    print(f'| {name} | {timings.median("plain") * 1e3:.1f} | {timings.ratio("channels_last", "plain"):.2f} | '
          f'{choose(timings, "plain")} |', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('networks', nargs='*', metavar='NETWORK', help=f'all by default: {", ".join(NETWORKS)}')
    parser.add_argument('--rounds', type=int, default=8)
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    unknown = sorted(set(args.networks) - set(NETWORKS))
    if unknown:
        parser.error(f'{unknown[0]} is none of {", ".join(NETWORKS)}')
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    print(f'torch {torch.__version__}, {device_name(args.threads)}\n')
    print('| network | plain step, ms | channels_last / plain | chosen |\n|---|---|---|---|')
    for name in args.networks or NETWORKS:
        report(name, NETWORKS[name], args.rounds)


if __name__ == '__main__':
    main()
