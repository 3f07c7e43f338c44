"""What the names of mmrazor's distillation are called here, for the hint of an error; see docs/coming-from-mmrazor.md."""
from difflib import get_close_matches
from typing import Any, Dict, Mapping, Optional

from .errors import LONGEST_NAME

PAGE = 'docs/coming-from-mmrazor.md'
FEATURES, LOGITS = "type='mmkd.FeatureDistiller', loss=", "type='mmkd.LogitsDistiller', loss="
ADDRESS, NOTHING, PART = 'an address in pairs', 'nothing', 'part of the loss'
LOSSES: Mapping[str, str] = dict(
    ChannelWiseDivergence=f"{FEATURES}'cwd'", KLDivergence=f"{LOGITS}'kl'", KDSoftCELoss=f"{LOGITS}'kl'",
    L1Loss=f"{FEATURES}'l1'", L2Loss=f"{FEATURES}dict(type='mmkd.L2Loss', normalise=True)", ATLoss=f"{FEATURES}'at'",
    ABLoss=f"{FEATURES}'ab'", OFDLoss=f"{FEATURES}'ofd'", FTLoss=f"{FEATURES}'ft'", DKDLoss=f"{LOGITS}'dkd'",
    DISTLoss=f"{LOGITS}'dist'", WSLD=f"{LOGITS}'wsld'", PKDLoss=f"{FEATURES}'pkd'", CRDLoss=f"{FEATURES}'crd'",
    DistanceWiseRKD=f"{FEATURES}dict(type='mmkd.RKDDistanceLoss', normalise=True)",
    AngleWiseRKD=f"{FEATURES}dict(type='mmkd.RKDAngleLoss', normalise=True)", MGDLoss=f"{FEATURES}'masked_generative'",
    FBKDLoss=f"{NOTHING}; nearest is {FEATURES}'fgd'", ActivationLoss=NOTHING, OnehotLikeLoss=NOTHING,
    InformationEntropyLoss=NOTHING)
RECORDERS: Mapping[str, str] = dict(
    ModuleOutputs=f"{ADDRESS}: 'backbone.layer4'", ModuleInputs=f"{ADDRESS}: 'decode_head.conv_seg@in'", Parameter=NOTHING,
    MethodOutputs=f'{NOTHING}: taps are modules', MethodInputs=f'{NOTHING}: taps are modules',
    FunctionOutputs=f'{NOTHING}: taps are modules', FunctionInputs=f'{NOTHING}: taps are modules')
CONNECTORS: Mapping[str, str] = dict(
    ConvModuleConnector="adapter='conv1x1', or 'conv1x1_bn'", Translator=PART, MGDConnector=PART, CRDConnector=PART,
    OFDTeacherConnector=PART, NormConnector=f'{NOTHING}: the losses normalise', Paraphraser=NOTHING, BYOTConnector=NOTHING,
    FBKDTeacherConnector=NOTHING, FBKDStudentConnector=NOTHING, TorchFunctionalConnector=NOTHING, TorchNNConnector=NOTHING)
OTHERS: Mapping[str, str] = dict(
    SingleTeacherDistill="type='mmkd.DistilledModel'", FpnTeacherDistill="type='mmkd.DistilledModel'", SelfDistill=NOTHING,
    DataFreeDistillation=NOTHING, DAFLDataFreeDistillation=NOTHING, ConfigurableDistiller='distillers, one for each loss',
    OFDDistiller=f"{FEATURES}'ofd'", BYOTDistiller=NOTHING, StopDistillHook='end=<iteration> of a distiller',
    SingleTeacherDistillValLoop=f'{NOTHING}: leave val_cfg as the student has it')
NAMES: Dict[str, str] = {**LOSSES, **RECORDERS, **CONNECTORS, **OTHERS}

OF_DISTILLERS: Mapping[str, str] = dict(
    dict.fromkeys(('student_recorders', 'teacher_recorders', 'loss_forward_mappings'), 'What is compared with what stands '
                  f"in pairs: pairs=['backbone.layer4'] ({PAGE})."),
    distill_losses=f'Each loss is a distiller of its own, distillers=dict(<name>=dict(type=..., pairs=[...])) ({PAGE}).',
    connectors=f"The adapter of mmkd.FeatureDistiller: adapter='conv1x1' ({PAGE}).",
    **dict.fromkeys(('student_deliveries', 'teacher_deliveries', 'distill_deliveries'), 'It falls away: the teacher gets '
                    f"the student's batch ({PAGE})."))
"""By an option of mmrazor's distillers, what stands here in its place."""
OF_MODELS: Mapping[str, str] = dict(
    architecture=f"It is student=dict(...), the student's own config ({PAGE}).",
    distiller=f'It is distillers=dict(<name>=dict(type=..., pairs=[...]), ...) ({PAGE}).',
    teacher_ckpt=f'It is teacher=dict(config=..., checkpoint=...) ({PAGE}).',
    **dict.fromkeys(('teacher_trainable', 'teacher_norm_eval', 'student_trainable', 'calculate_student_loss'),
                    f'It falls away: the teacher is in eval mode and never learns ({PAGE}).'))
"""By a key of mmrazor's models, what stands here in its place."""
OF_LOSSES: Mapping[str, str] = dict(
    loss_weight='It belongs to the distiller: beside loss=..., not in it.', tau='temperature', normalize='normalise',
    with_l2_norm='normalise', mul_factor='divisor', lambda_mgd='ratio', alpha_mgd='alpha', inter_loss_weight='beta',
    intra_loss_weight='gamma', neg_num='negatives', sample_n='images', dim_out='width',
    reduction='It falls away: the mean is taken.')
"""By an option of mmrazor's losses, the name of the option here, or what to do."""


def hint_for(given: Any) -> str:
    """What a name of mmrazor, or one that is misspelt by a letter or two, is here; '' for any other.

    Args:
        given: a name, with or without its scope, or a dict with it as ``type``.
    """
    name = _name_in(given)
    if name is None:
        return ''
    found = name if name in NAMES else next(iter(get_close_matches(name[:LONGEST_NAME], NAMES, n=1, cutoff=0.9)), None)
    return f'{found} of mmrazor is here: {NAMES[found]} ({PAGE}).' if found is not None else ''


def _name_in(given: Any) -> Optional[str]:
    kind = given.get('type') if isinstance(given, dict) else given
    return kind.rpartition('.')[2] if isinstance(kind, str) and kind.rpartition('.')[0] in ('', 'mmrazor') else None
