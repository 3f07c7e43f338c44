"""What distillation costs, as ratios inside one run.

usage: python benchmarks/overhead.py [PAIR] [--rounds 15] [--threads 2]

For a pair of networks: time of the student's training step, of the teacher's forward to the deepest tap, and of the
distilled step; the ratio distilled / (student + teacher) says what is lost beyond the two networks themselves. The three
are measured in turn, round by round, and compared by their medians, since shared machines are noisy. Peak memory comes
from a fresh process for each (resident memory on a CPU, allocated memory on a GPU). Then the matching update.
"""
import argparse
import statistics
from typing import Callable, Dict, Tuple

import torch
from measuring import device_name, in_fresh_process, in_turn, measure, peak_memory
from mmengine.registry import MODELS, DefaultScope, init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import nn

import mmkd_plugin  # noqa: F401 (registers everything)
from mmkd_plugin.distiller import Batch
from mmkd_plugin.mgd.matching import assign, cost_matrix
from mmkd_plugin.utils.config import load_config
from mmkd_plugin.utils.launch import replace_sync_bn

CITYSCAPES = 'mmkd_plugin::segmentation/cityscapes/mgd-amp_pspnet_r101-r18-d8_4xb2-80k_cityscapes-512x1024.py'
PAIRS = {
    # One tap, as in mmrazor's PSPNet config.
    'pspnet': dict(config=CITYSCAPES, distiller=dict(pairs=['backbone.layer4']), image=(128, 256), batch=2),
    'retinanet': dict(config='mmkd_plugin::detection/coco/mgd-amp_retinanet_r50-r18-freeze0_fpn_1x_coco.py',
                      image=(256, 320), padding=(32, 0), batch=2),
    'mobilenet': dict(config='mmkd_plugin::classification/imagenet/mgd-amp_resnet50-mobilenet-v2_8xb32_in1k.py',
                      image=(224, 224), batch=8),
}
MATCHING = dict(config='mmkd_plugin::classification/imagenet/mgd-amp_resnet34-resnet18_8xb32_in1k.py',
                teacher='mmpretrain::resnet/resnet50_8xb32_in1k.py', image=(224, 224), batch=8)


def without_downloads(node) -> None:
    """No weights from files in a config."""
    if isinstance(node, dict):
        node.update({key: None for key in ('pretrained', 'init_cfg', 'checkpoint') if key in node})
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        without_downloads(value)


def build(pair: dict) -> Tuple[nn.Module, nn.Module]:
    """The plain student and the distilled one, of a shipped config, with random weights."""
    cfg = load_config(pair['config'], 'benchmark')
    init_default_scope(cfg.default_scope)
    model = cfg.model.to_dict()
    if cfg.get('data_preprocessor') is not None:
        model['student'].setdefault('data_preprocessor', cfg.data_preprocessor.to_dict())
    teacher = load_config(pair.get('teacher', model['teacher']['config']), 'benchmark')._cfg_dict.to_dict()
    for node in (model['student'], teacher):
        replace_sync_bn(node)
        without_downloads(node)
    model['teacher'] = dict(config=teacher, allow_random_weights=True)
    model['distillers']['mgd'].update(pair.get('distiller', {}))
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    plain, distilled = MODELS.build(model['student']).to(device).train(), MODELS.build(model).to(device).train()
    distilled.attach_distillation()
    for stage in distilled.distillation.mgd.stages:
        channels_t = len(stage.margins)
        stage.assignment.copy_(torch.randperm(channels_t)[:stage.assignment.numel()].view_as(stage.assignment))
        stage.matched = True
    return plain, distilled


def data_sample(scope: str, pair: dict, device: torch.device):
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


def steps(pair: dict) -> Dict[str, Callable[[], None]]:
    """What is measured: each callable is one step."""
    plain, distilled = build(pair)
    data = make_batch(plain, pair)

    def training_step(model):
        optimiser = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=.9)

        def step():
            losses = model(**data, mode='loss')
            optimiser.zero_grad()
            model.parse_losses(losses)[0].backward()
            optimiser.step()
        return step

    teacher = distilled.distillation.teacher
    return {'student': training_step(plain), 'teacher': lambda: teacher.features(data['inputs'], data['data_samples']),
            'distilled': training_step(distilled)}


def peak_of_step(name: str, pair: dict, threads: int) -> float:
    """MiB that steps of this name add at most; both networks are built before."""
    torch.set_num_threads(threads)
    return peak_memory(steps(pair)[name])


def report_steps(pair: dict, rounds: int, threads: int) -> None:
    measured = in_turn(steps(pair), rounds)
    medians = {name: statistics.median(values) for name, values in measured.items()}
    ratios = [d / (s + t) for s, t, d in zip(measured['student'], measured['teacher'], measured['distilled'])]
    print('| step | median ms | peak MiB |\n|---|---|---|')
    for name, seconds in medians.items():
        memory = in_fresh_process(peak_of_step, name, pair, threads)
        print(f'| {name} | {seconds * 1e3:.1f} | {memory:.0f} |')
    ratio = medians['distilled'] / (medians['student'] + medians['teacher'])
    print(f'\nratio distilled / (student + teacher): {ratio:.3f} (by medians); per round: median '
          f'{statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}\n')


def report_matching(rounds: int) -> None:
    """Time of the matching update for 4 stages of ResNet-50 -> ResNet-18 at 224x224."""
    _, distilled = build(MATCHING)
    distilled.eval()
    distillation, distiller = distilled.distillation, distilled.distillation.mgd
    images = torch.randn(MATCHING['batch'], 3, *MATCHING['image'], device=next(distilled.parameters()).device)
    batch = Batch(images, None, 0)
    statistics_ = distiller.start_update()

    def features():
        return distillation.features(distilled, batch, ['mgd'])

    def accumulate():
        distiller.accumulate(statistics_, *recorded, batch)

    recorded = features()
    with torch.no_grad():
        forward = statistics.median(measure(features) for _ in range(rounds)) / MATCHING['batch']
        cost = statistics.median(measure(accumulate) for _ in range(rounds)) / MATCHING['batch']
    print('| matching update, ResNet-50 -> ResNet-18, 4 stages | ms |\n|---|---|')
    print(f'| both forwards, per image | {forward * 1e3:.1f} |\n| cost, per image | {cost * 1e3:.1f} |')
    for stage, stage_statistics in zip(distiller.stages, statistics_):
        matrix = stage_statistics.cost()
        seconds = measure(lambda matrix=matrix: assign(matrix))
        print(f'| solving {stage.name} {tuple(matrix.shape)} | {seconds * 1e3:.0f} |')
    generator = torch.Generator().manual_seed(0)
    worst = cost_matrix(torch.randn(512, 2048, generator=generator) * .1, 1)
    print(f'| solving (512, 2048), random costs | {measure(lambda: assign(worst)) * 1e3:.0f} |')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('pair', nargs='?', choices=PAIRS, default='pspnet')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--threads', type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    pair = PAIRS[args.pair]
    print(f'{args.pair}: {pair["image"][0]}x{pair["image"][1]}, batch {pair["batch"]}; torch {torch.__version__}, '
          f'{device_name(args.threads)}\n')
    report_steps(pair, args.rounds, args.threads)
    report_matching(max(3, args.rounds // 3))


if __name__ == '__main__':
    main()
