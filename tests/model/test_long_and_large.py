"""Runs that are long, and data as odd as data are: every method, on small networks."""
import math

import pytest
import torch
from long_runs import METHODS, HoldingsHook, holdings, method, method_cfg, networks, odd_loader
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from zoo import batch, build, classifier, distilled, run

from mmkd_plugin.distpro import Process, read_process
from mmkd_plugin.distpro.artefact import write_process
from mmkd_plugin.distpro.pathways import make_pathways, name_pathways
from mmkd_plugin.distpro.transforms import PATHWAY_TRANSFORMS
from mmkd_plugin.utils.errors import DistillationError

EACH = [pytest.param(name, scope, id=f'{name}-{scope}') for name, scopes in METHODS.items() for scope in scopes
        if name not in ('mgd-auto-scale', 'distpro-equal')]  # which do nothing else with a batch
SIZES = [(64, 64), (48, 64), (32, 40), (32, 24)]


class Shapes(Hook):
    """Remembers the shapes of the batches that the student sees."""

    def __init__(self):
        self.seen = []

    def before_train(self, runner):
        runner.model.backbone.register_forward_pre_hook(
            lambda module, args: self.seen.append(tuple(args[0].shape)) if module.training else None)


def trained(*args, **options):
    """The losses of every iteration of a run of a method, and the shapes that the student has seen."""
    shapes = Shapes()
    _, losses = run(method_cfg(*args, **options), lambda runner: runner.register_hook(shapes))
    return losses, shapes.seen


def all_finite(losses):
    return all(math.isfinite(value) for entry in losses for value in entry.values())


# --- long


def test_what_is_held_is_counted():
    before = holdings()
    kept = [torch.zeros(1) for _ in range(3)]
    with open('/dev/null') as handle:
        after = holdings()
    assert after.tensors - before.tensors == len(kept)
    assert after.handles - before.handles == 1
    assert not handle.closed or holdings().handles == before.handles


@pytest.mark.slow
@pytest.mark.parametrize('name', METHODS)
def test_nothing_is_kept_from_one_iteration_to_the_next(name, tmp_path):
    scope = 'mmpretrain' if 'mmpretrain' in METHODS[name] else 'mmseg'
    sizes = dict(sizes=[(32, 32)])
    cfg = method_cfg(name, scope, tmp_path, 30, odd_loader(scope, **sizes), odd_loader(scope, 6, **sizes), every=10)
    runner, look = Runner.from_cfg(cfg), HoldingsHook(10)
    runner.register_hook(look)
    runner.train()
    early, _, late = look.course.values()
    assert (late.tensors, late.handles) == (early.tensors, early.handles)


# --- odd data


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'scope'), EACH)
def test_every_iteration_may_have_another_image_size(name, scope, tmp_path):
    data = [odd_loader(scope, 8, 2, sizes=SIZES), odd_loader(scope, 6, 1, sizes=SIZES)]  # mmseg evaluates one size a batch
    losses, shapes = trained(name, scope, tmp_path, 4, *data)
    assert len(losses) == 4
    assert all_finite(losses)
    assert len({shape[2:] for shape in shapes}) > 1


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'scope'), EACH)
def test_a_batch_may_have_one_image(name, scope, tmp_path):
    data = [odd_loader(scope, length, 1, sizes=SIZES) for length in (4, 3)]
    losses, shapes = trained(name, scope, tmp_path, 3, *data)
    assert len(losses) == 3
    assert all_finite(losses)
    assert {shape[0] for shape in shapes} == {1}


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'scope'), [each for each in EACH if 'mmpretrain' not in each.id])
def test_images_may_have_no_ground_truth(name, scope, tmp_path):
    """No box in any image, no labelled pixel: that happens to a batch now and then, in searches to one for validation."""
    data = [odd_loader(scope, length, empty=True) for length in (8, 6)]
    losses, _ = trained(name, scope, tmp_path, 3, *data)
    assert len(losses) == 3
    assert all_finite(losses)


@pytest.mark.parametrize('name', ['mgd', 'distpro-equal', 'dfa-distill', 'features', 'logits'])
def test_where_no_pixel_is_labelled_nothing_is_compared(name, tmp_path):
    """Not NaN, which a mean over nothing would be; and the next batch is not affected."""
    (key, cfg), = method(name, 'mmseg', tmp_path, {})[0].items()
    if name != 'logits':  # which always looks at the labels
        cfg['mask_padding'] = True
    model = ready(distilled(*networks('mmseg'), **{key: cfg}))
    data = [model.data_preprocessor(batch('mmseg', start=start), True) for start in (0, 2)]
    for sample in data[0]['data_samples']:
        sample.gt_sem_seg.data.fill_(255)
    for each, is_zero in zip(data, (True, False)):
        found = [value for loss, value in model(**each, mode='loss').items() if loss.startswith(f'{key}.loss')]
        assert found
        sum(found).backward()
        assert all((float(value) == 0) == is_zero and math.isfinite(value) for value in found)
        assert all(weight.grad is None or bool(weight.grad.isfinite().all()) for weight in model.parameters())


def ready(cfg):
    """A model to train; a matching, where there is one to be found, is made up."""
    model = build(cfg).train()
    for distiller in model.distillation.distillers.values():
        for stage in getattr(distiller, 'stages', ()):
            stage.assignment.copy_(torch.arange(stage.assignment.numel()).view_as(stage.assignment))
            stage.matched = True
    return model


@pytest.mark.parametrize(('name', 'scope'), [
    each for each in EACH if 'search' not in each.id and 'mmpretrain' not in each.id])
def test_the_losses_of_a_batch_do_not_depend_on_the_size_of_the_one_before(name, scope, tmp_path):
    model = ready(distilled(*networks(scope), **method(name, scope, tmp_path, {})[0]))
    MessageHub.get_current_instance().update_info('max_iters', 3)
    several = next(iter(Runner.build_dataloader(odd_loader(scope, 4, 4, sizes=SIZES))))

    def losses(*numbers):
        torch.manual_seed(0)  # of dropout
        data = {key: [values[number] for number in numbers] for key, values in several.items()}
        found = model(**model.data_preprocessor(data, True), mode='loss')
        return {loss: value.tolist() for loss, value in found.items() if isinstance(value, torch.Tensor)}

    first = losses(0, 1)
    assert losses(2, 3) != first
    assert losses(0, 1) == first


# --- loaders


def run_of(name, loop, data, folder, **options):
    """A run of a method whose training data is ``data``, by epochs or by iterations."""
    cfg = method_cfg(name, 'mmpretrain', folder, 4, data, **options)
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=False, _scope_='mmengine')
    if loop == 'epochs':
        cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2)
        cfg.log_processor.by_epoch = cfg.default_hooks.checkpoint.by_epoch = True
    return run(cfg)


@pytest.mark.parametrize('length', [0, 1])
@pytest.mark.parametrize('loop', ['epochs', 'iterations'])
def test_training_data_without_a_whole_batch_is_an_error(loop, length, tmp_path):
    """Neither a run of no iteration, which would seem to have succeeded, nor a StopIteration."""
    data = dict(odd_loader('mmpretrain', length), drop_last=True)
    with pytest.raises(DistillationError, match='^train_dataloader.*(is empty|no whole batch)'):
        run_of('features', loop, data, tmp_path)


def test_a_data_set_smaller_than_a_batch_is_a_batch_where_that_is_wanted(tmp_path):
    _, losses = run_of('features', 'epochs', dict(odd_loader('mmpretrain', 1), drop_last=False), tmp_path)
    assert len(losses) == 2


@pytest.mark.parametrize(('name', 'message'), [
    ('mgd', 'the matching update has seen no image'), ('distpro-search', 'ProcessSearchHook.dataloader: .*no whole batch'),
    ('dfa-search', 'AggregationSearchHook.dataloader: .*no whole batch')])
def test_validation_data_without_a_whole_batch_is_an_error(name, message, tmp_path):
    with pytest.raises(DistillationError, match=message):
        run(method_cfg(name, 'mmpretrain', tmp_path, 4, validation=dict(odd_loader('mmpretrain', 1), drop_last=True)))


# --- a teacher elsewhere


class MovesTheTeacher(Hook):
    """Does something to the teacher's model between the second iteration and the third."""

    def __init__(self, move):
        self.move = move

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2:
            self.move(runner.model.distillation.teacher.model)


def test_a_teacher_in_another_precision_comes_back(tmp_path):
    runs = [run(method_cfg('features', 'mmpretrain', tmp_path / name, 4),
                lambda runner, move=move: runner.register_hook(MovesTheTeacher(move)))
            for name, move in (('left alone', lambda model: None), ('moved', lambda model: model.double()))]
    assert runs[0][1] == runs[1][1], 'from float64 to float32 nothing is lost'
    assert {weight.dtype for weight in runs[1][0].model.distillation.teacher.model.parameters()} == {torch.float32}


def test_a_teacher_comes_back_from_where_it_was_before(tmp_path):
    """As from a GPU: the device 'meta' is the only other one here, for a student that is there too."""
    model = ready(distilled(*networks('mmpretrain'), l2=dict(type='mmkd.FeatureDistiller', pairs=['backbone.layer3'])))
    teacher = model.distillation.teacher
    images = torch.rand(2, 3, 32, 32)
    expected = teacher.features(images)['backbone.layer3']
    weights = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    assert teacher.features(images.to('meta'))['backbone.layer3'].is_meta
    with pytest.raises(DistillationError, match="^model.teacher: .*'meta', where it has lost its weights"):
        teacher.features(images)
    teacher.model.to_empty(device='cpu').load_state_dict(weights)
    assert torch.equal(teacher.features(images)['backbone.layer3'], expected)


# --- large

# Other tests register some of their own.
TRANSFORMS = [name for name, made in PATHWAY_TRANSFORMS.module_dict.items() if made.__module__.startswith('mmkd_plugin.')]
BLOCKS = [f'backbone.{stage}.{block}@end' for stage, blocks in (('layer1', 3), ('layer2', 4), ('layer3', 5))
          for block in range(blocks)]


def large_process(length=200, every=50, alive=8):
    """More than 1,000 pathways, of which the first few are alive until the end."""
    pathways = make_pathways(BLOCKS, BLOCKS, 'all', TRANSFORMS)
    records = -(-(length - 1) // every) + 1
    importance = torch.linspace(1, 0, records, dtype=torch.float64).view(-1, 1).repeat(1, len(pathways))
    importance[:, :alive] = 1 + torch.rand(records, alive, dtype=torch.float64)
    return Process(pathways, 'biased_softmax', 1., .5, importance, length, every)


def test_a_process_of_a_thousand_pathways_is_written_read_and_stretched(tmp_path):
    process = large_process()
    assert len(process.pathways) > 1000
    write_process(tmp_path / 'process.json', process)
    read = read_process(tmp_path / 'process.json')
    assert (read.pathways, read.length, read.positions) == (process.pathways, 200, [0, 50, 100, 150, 199])
    torch.testing.assert_close(read.importance, process.importance, rtol=0, atol=1e-6)
    torch.testing.assert_close(read.at(75, 200), (read.importance[1] + read.importance[2]) / 2)
    assert len(set(name_pathways(read.pathways))) == len(read.pathways)


def test_a_thousand_pathways_are_replayed_and_pruned(tmp_path):
    process = large_process()
    write_process(tmp_path / 'process.json', process)
    distiller = dict(type='mmkd.DistProDistiller', levels=BLOCKS, connections='all',
                     transforms=TRANSFORMS, process=str(tmp_path / 'process.json'))
    model = ready(distilled(classifier(2, depth=34), classifier(4, depth=34), distpro=distiller))
    hub, distpro = MessageHub.get_current_instance(), model.distillation.distpro
    hub.update_info('max_iters', process.length)
    images = torch.rand(2, 3, 16, 16)
    data = model.data_preprocessor({**batch('mmpretrain'), 'inputs': [image * 255 for image in images]}, True)
    for iteration, live in ((0, len(process.pathways)), (199, 8)):
        hub.update_info('iter', iteration)
        model.zero_grad()
        loss = model(**data, mode='loss')['distpro.loss_pathways']
        loss.backward()
        expected = torch.softmax(torch.cat([process.at(iteration, 200), torch.ones(1)]), 0)[:-1]
        assert list(distpro.importance.weights(iteration).values()) == pytest.approx(expected[:live].tolist(), abs=1e-6)
        assert [any(weight.grad is not None for weight in transform.parameters()) for transform in distpro.transforms] == [
            number < live for number in range(len(process.pathways))]
