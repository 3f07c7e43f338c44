"""How each loss is called as its public reference implementation calls it: by the name it has in ``losses/oracles.json``.

A call takes the inputs, the weights and the parameters of a case, and whose implementation it is; it returns the loss, or
the loss with a dict of its parts and one of other outputs.
"""
import numpy as np
import torch
import torch.nn.functional as F

from mmkd_plugin.losses import (
    activations,
    attention,
    cells,
    channels,
    contrastive,
    correlations,
    cross_head,
    distances,
    divergences,
    features,
    focal_global,
    generative,
    logits,
    pixels,
    review,
    similarity,
    variational,
)
from mmkd_plugin.losses.margins import margins_from_norm

CALLS = {}


def call(*names):
    def register(function):
        CALLS.update(dict.fromkeys(names, function))
        return function

    return register


def levels(x):
    """(student, teacher) of each level of a case."""
    if 'student' in x:
        return [(x['student'], x['teacher'])]
    return [(x[name], x[name.replace('student', 'teacher')]) for name in sorted(x) if name.startswith('student')]


def load(module, weights, training=True, **names):
    """Puts weights (which want gradients) into a module: by the path of its module or parameter."""
    values = {}
    for path, name in names.items():
        path = path.replace('__', '.')
        if name in weights:
            values[path] = weights[name]
        else:
            values.update({f'{path}.{kind}': weights[f'{name}_{kind}']
                           for kind in ('weight', 'bias', 'running_mean', 'running_var') if f'{name}_{kind}' in weights})
    return lambda *args: torch.func.functional_call(module.double().train(training), values, args)


@call('kd')
def _(x, w, p, source):
    value = divergences.kl_divergence(x['student'], x['teacher'], p['T'])
    # mmrazor adds up over the pixels, or divides by the classes too: a loss_weight of H * W, or of 1 / K.
    if p.get('reduction') in ('sum', 'batchmean'):
        return value.sum() / (1 if p['reduction'] == 'sum' else len(value))
    return value.mean() / (x['student'].shape[1] if p.get('reduction') == 'mean' else 1)


@call('kd_logit_standardization')
def _(x, w, p, source):
    loss = logits.KLLoss(temperature=p['T'], standardise=True)(x['student'], x['teacher'])
    return loss, dict(kl_without_T2=loss / p['T'] ** 2, weighted=loss * p['weight'])


@call('kd_pixelwise')
def _(x, w, p, source):
    loss = divergences.kl_divergence(x['student'], x['teacher'], p['T']).mean()
    # IFVD divides by the classes and leaves T^2 out: a loss_weight.
    return loss / x['student'].shape[1] / p['T'] ** 2 if source == 'IFVD' else loss


@call('dkd')
def _(x, w, p, source):
    def mean(alpha, beta):
        return logits.decoupled(x['student'], x['teacher'], x['labels'], p['T'], alpha, beta).mean()

    return mean(p['alpha'], p['beta']), dict(tckd=mean(1, 0), nckd=mean(0, 1))


@call('nkd')
def _(x, w, p, source):
    return logits.normalised(x['student'], x['teacher'], x['labels'], p['T'], p['gamma']).mean()


@call('wsld')
def _(x, w, p, source):
    return logits.weighted_soft_labels(x['student'], x['teacher'], x['labels'], p['T']).mean()


@call('dist')
def _(x, w, p, source):
    inter, intra = correlations.correlation(x['student'], x['teacher'], p.get('tau', 1.0))
    return p['beta'] * inter + p['gamma'] * intra, dict(inter=inter, intra=intra)


@call('mlkd')
def _(x, w, p, source):
    def instance(student, teacher, temperature):
        return divergences.kl_divergence(student, teacher, temperature).mean()

    if 'student' in x:
        level = dict(instance=instance, batch=correlations.batch_level)
        level['class'] = correlations.class_level
        return level[p['case'].split('_')[0]](x['student'], x['teacher'], p['T'])
    # The authors' training step: two views; masks that only scale by the share of what is unsure; and, in the strong view,
    # the weak one's scores at the last two temperatures. The loss of this package has one view and no masks.
    weak, strong = (x['student_weak'], x['teacher_weak']), (x['student_strong'], x['teacher_strong'])
    probabilities = x['teacher_weak'].softmax(1)
    unsure = [(values <= np.percentile(values, 50)).double().mean() for values in
              (probabilities.max(1).values, probabilities.sum(0))]
    others = p['T_others']
    temperatures = [p['T'], *others]
    total = sum(instance(*weak, each) for each in temperatures) * unsure[0]
    total = total + sum(instance(*strong, each) for each in temperatures[:3])
    total = total + sum(instance(*weak, each) for each in others[2:])
    parts = dict(instance=p['weight'] * total,
                 batch=p['weight'] * unsure[0] * sum(correlations.batch_level(*weak, each) for each in temperatures))
    parts['class'] = p['weight'] * unsure[1] * sum(correlations.class_level(*weak, each) for each in temperatures)
    return sum(parts.values()), parts


@call('fitnet_l2')
def _(x, w, p, source):
    if source == 'mmrazor':
        return features.normalised_l2(x['student'], x['teacher'])
    adapted = x['student']
    if 'conv_weight' in w:
        adapted = F.conv2d(adapted, w['conv_weight'], w.get('conv_bias'))
    if 'bn_weight' in w:
        adapted = F.batch_norm(adapted, None, None, w['bn_weight'], w['bn_bias'], training=True).relu()
    return features.L2Loss()(adapted, x['teacher']), {}, dict(adapted=adapted)


@call('at')
def _(x, w, p, source):
    return attention.attention_transfer(x['student'], x['teacher'], p.get('p', 2))


@call('nst')
def _(x, w, p, source):
    return attention.neuron_selectivity(x['student'], x['teacher'])


@call('ft')
def _(x, w, p, source):
    return attention.factor_transfer(x['student'], x['teacher'], attention=source == 'RepDistiller')


@call('sp')
def _(x, w, p, source):
    return similarity.similarity_preserving(x['student'], x['teacher'])


@call('pkt')
def _(x, w, p, source):
    return similarity.probabilistic_transfer(x['student'], x['teacher'])


@call('rkd_distance')
def _(x, w, p, source):
    return p['weight'] * similarity.relative_distances(x['student'], x['teacher'], p['l2_normalise'])


@call('rkd_angle')
def _(x, w, p, source):
    return p['weight'] * similarity.angles(x['student'], x['teacher'], p['l2_normalise'])


@call('ab')
def _(x, w, p, source):
    return activations.activation_boundary(x['student'], x['teacher'], p['margin'])


@call('ofd')
def _(x, w, p, source):
    student, teacher = x['student'], x['teacher']
    margin = margins_from_norm(w['bn_weight'], w['bn_bias']) if 'bn_weight' in w else None
    if source == 'mdistiller':
        teacher = F.adaptive_avg_pool2d(teacher, student.shape[2:])
    loss = activations.overhaul(student, teacher, margin)
    divisor = dict(authors=1, mdistiller=len(student), mmrazor=len(student) * 1000)[source]
    return loss / divisor, dict(per_image_over_1000=loss / len(student) / 1000), dict(margin=margin)


@call('vid')
def _(x, w, p, source):
    hidden, width = w['conv1_weight'].shape[:2]
    names = {'0__weight': 'conv1_weight', '2__weight': 'conv2_weight', '4__weight': 'conv3_weight'}
    student, teacher = cells.to_smaller_size(x['student'], x['teacher'])
    regressor = load(variational.Regressor(width, hidden, teacher.shape[1]), w, **names)
    return variational.gaussian_log_likelihood(regressor(student), teacher, w['rho'], p['eps'])


@call('hcl')
def _(x, w, p, source):
    return sum(distances.hcl(student, teacher) for student, teacher in levels(x))


def fusion(w, prefix='', training=True):
    hidden, width = w[f'{prefix}conv1_weight'].shape[:2]
    module = review.AttentionFusion(width, hidden, len(w[f'{prefix}conv2_weight']), f'{prefix}attention_weight' not in w)
    names = dict(enter__0='conv1', enter__1='bn1', leave__0='conv2', leave__1='bn2', attention='attention')
    return load(module, w, training, **{path: prefix + name for path, name in names.items()})


@call('abf')
def _(x, w, p, source):
    size = (p['output_size'],) * 2 if 'output_size' in p else None
    output, passed_on = fusion(w, training=p.get('training', True))(x['student'], x.get('residual'), size)
    loss = (output * x['probe']).sum()
    if 'probe_passed_on' in x:
        loss = loss + (passed_on * x['probe_passed_on']).sum()
    return loss, {}, dict(output=output, passed_on=passed_on)


@call('reviewkd')
def _(x, w, p, source):
    students, teachers = zip(*levels(x))
    outputs = review.review([fusion(w, f'abf{level}_') for level in range(len(students))], students,
                            [tuple(teacher.shape[2:]) for teacher in teachers])
    loss = sum(distances.hcl(output, teacher) for output, teacher in zip(outputs, teachers))
    return loss, {}, {f'output_{level}': output for level, output in enumerate(outputs)}


@call('crd')
def _(x, w, p, source):
    ours, theirs = (contrastive.unit_rows(F.linear(x[side], w[f'embed_{side}_weight'], w[f'embed_{side}_bias']))
                    for side in ('student', 'teacher'))
    memories, indices = (w['memory_student'], w['memory_teacher']), x['contrast_index']
    scores = [contrastive.contrast_scores(embedding, memory, indices, p['tau'])
              for embedding, memory in ((ours, memories[1]), (theirs, memories[0]))]
    z = [p.get(f'Z_{side}', contrastive.normaliser(each, p['n'])) for side, each in zip(('student', 'teacher'), scores)]
    z = [torch.as_tensor(each) for each in z]
    parts = contrastive.contrast(ours, theirs, memories, indices, z, p['tau'])
    rows = [contrastive.updated_rows(memory, embedding, x['index'], p['momentum'])
            for memory, embedding in zip(memories, (ours, theirs))]
    after = [memory.index_copy(0, x['index'], each) for memory, each in zip(memories, rows)]
    return (sum(parts), dict(student_direction=parts[0], teacher_direction=parts[1], Z_student=z[0], Z_teacher=z[1]),
            dict(memory_student_after=after[0], memory_teacher_after=after[1]))


@call('cwd')
def _(x, w, p, source):
    student = F.conv2d(x['student'], w['conv_weight']) if 'conv_weight' in w else x['student']
    loss = p.get('weight', 1.0) * channels.channel_divergence(student, x['teacher'], p['tau'])
    # CIRKD divides the sum over the adapted channels by the number before the adapter: a loss_weight of C_t / C_s.
    return loss * student.shape[1] / x['student'].shape[1]


@call('pkd')
def _(x, w, p, source):
    return p['weight'] * sum(channels.pearson_distance(student, teacher, resize_student=p['resize_student'])
                             for student, teacher in levels(x))


@call('mgd_masked_generative')
def _(x, w, p, source):
    student = F.conv2d(x['student'], w['align_weight'], w['align_bias']) if 'align_weight' in w else x['student']
    generation = load(generative.Generation(student.shape[1]), w, **{'0': 'gen1', '2': 'gen2'})
    loss = generative.masked_generation(generation(student * x['mask']), x['teacher'])
    return loss * p['alpha'], dict(unweighted=loss)


@call('fgd')
def _(x, w, p, source):
    student, teacher = x['student'], x['teacher']
    if 'align_weight' in w:
        student = F.conv2d(student, w['align_weight'], w['align_bias'])
    found = [x[f'boxes_{image}'] for image in range(len(student))]
    masks = focal_global.box_masks(found, p['image_shape'], tuple(student.shape[2:]), student)
    foreground, background, attentions = focal_global.focal_terms(student, teacher, *masks, p['temp'])
    blocks = [load(focal_global.GlobalContext(teacher.shape[1]), w, attention=f'{side}_context', transform__0=f'{side}_w1',
                   transform__1=f'{side}_ln', transform__3=f'{side}_w2') for side in ('student', 'teacher')]
    relation = (blocks[0](student) - blocks[1](teacher)).square().sum() / len(student)
    parts = dict(foreground=foreground, background=background, attention=attentions)
    parts['global'] = relation
    loss = sum(p[weight] * part for weight, part in zip(('alpha', 'beta', 'gamma', 'lam'), parts.values()))
    return loss, parts, dict(mask_foreground=masks[0].squeeze(1), mask_background=masks[1].squeeze(1))


@call('cirkd_pixel')
def _(x, w, p, source):
    pool = min(x['student'].shape[2:]) >= 256  # as the authors decide it
    return pixels.cross_image_pixels(x['student'], x['teacher'], p['tau'], pool)


@call('cirkd_channel')
def _(x, w, p, source):
    student = x['student']
    if w:  # a projection: convolution, batch norm, ReLU, convolution
        first, last = (weight for weight in w.values() if weight.dim() == 4)
        scale, shift = (next(value for name, value in w.items() if value.dim() == 1 and name.endswith(kind))
                        for kind in ('weight', 'bias'))
        student = F.conv2d(F.batch_norm(F.conv2d(student, first), None, None, scale, shift, training=True).relu(), last)
    relation, squares = pixels.cross_image_channels(student, x['teacher'], p['tau'])
    return relation + squares, dict(batch_relation=relation, mse=squares)


@call('skd_pairwise')
def _(x, w, p, source):
    return pixels.pairwise_affinity(x['student'], x['teacher'])


@call('ifvd')
def _(x, w, p, source):
    labels = F.interpolate(x['labels'][:, None].double(), x['student'].shape[2:], mode='nearest').squeeze(1).long()
    return pixels.intra_class_variation(x['student'], x['teacher'], labels, p['classes'])


@call('crosskd')
def _(x, w, p, source):
    if source == 'align':
        aligned = cross_head.align_statistics(x['student'], x['teacher'])
        return (aligned * x['probe']).sum(), {}, dict(aligned=aligned)
    if source == 'cls':
        weights = x['label_weights'][:, None] if 'label_weights' in x else None
        return cross_head.quality_focal(x['student'], x['teacher'], p['beta'], weights, p.get('avg_factor'))
    if source == 'reg':
        return p.get('weight', 1.0) * cross_head.box_divergence(x['student'], x['teacher'], p['T'], x.get('weights'),
                                                               p.get('avg_factor'), 'mean_over_bins' in p['case'])
    return crossed_head(x, w, p)


def crossed_head(x, w, p):
    """A GFL head whose last 3x3 convolution and outputs are the teacher's."""
    def predict(feature, kind):
        hidden = F.conv2d(feature.relu(), w[f'{kind}_conv_weight'], w[f'{kind}_conv_bias'], padding=1).relu()
        return F.conv2d(hidden, w[f'{kind}_out_weight'], w[f'{kind}_out_bias'], padding=1)

    def rows(scores, width):
        return scores.permute(0, 2, 3, 1).reshape(-1, width)

    crossed, theirs = {}, {}
    for kind in ('cls', 'reg'):
        ours, teacher = x[f'student_{kind}'], x[f'teacher_{kind}']
        crossed[kind] = predict(cross_head.align_statistics(ours, teacher), kind)
        theirs[kind] = predict(teacher, kind)
    crossed['reg'], theirs['reg'] = crossed['reg'] * w['scale'], theirs['reg'] * w['scale']
    label_weights = x['label_weights'].reshape(-1)
    quality = [rows(scores['cls'], p['classes']) for scores in (crossed, theirs)]
    cls = p['weight_cls'] * cross_head.quality_focal(*quality, 1.0, label_weights[:, None], p['avg_factor'])
    weight = quality[1].sigmoid().max(1).values * (label_weights > 0)
    bins = [rows(scores['reg'], p['reg_max'] + 1) for scores in (crossed, theirs)]
    reg = p['weight_reg'] * cross_head.box_divergence(*bins, 1.0, weight.repeat_interleave(4), 4.0) / weight.sum()
    return (cls + reg, dict(cls=cls, reg=reg, reg_weight_sum=weight.sum()),
            dict(crossed_cls=crossed['cls'], crossed_reg=crossed['reg'], teacher_cls_logits=theirs['cls'],
                 teacher_reg_logits=theirs['reg']))
