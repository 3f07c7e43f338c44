"""Going on from a checkpoint as if nothing had happened: bit for bit, on every rank, after a kill at any moment.

Read in this order: ``saving`` (files are whole or not there), ``places``
(where they go), ``newest`` (which one is taken), ``parts`` and ``section``
(what is checked before anything is loaded, with ``digest``), and then what is kept beside weights and optimiser:
``generators`` (random numbers of this process), ``workers`` (those of loader workers), ``gradients`` (between two steps of
the optimiser), ``ranks`` (what each rank has of its own), ``validation`` (that was still to come),
``settings`` (options that are others now).
"""
from .generators import Generators
from .gradients import accumulated_gradients, give_back_gradients
from .newest import checkpoint_folders, choose_checkpoint
from .parts import check_outline, check_parts
from .places import check_places
from .ranks import (
    check_even_epochs,
    check_own,
    gathered,
    give_back_buffers,
    own_buffers,
    own_part,
    state_on_this_rank,
)
from .saving import extend_saving, remove_unfinished
from .section import KEY, Section, describe, position_of, read_section
from .settings import Settings, changed_settings, settings_of
from .validation import ValidatesFirst, is_before_validation
from .workers import LoaderWorkers

__all__ = ['Generators', 'KEY', 'LoaderWorkers', 'Section', 'Settings', 'ValidatesFirst', 'accumulated_gradients',
           'changed_settings', 'check_even_epochs', 'check_outline', 'check_own', 'check_parts', 'check_places',
           'checkpoint_folders', 'choose_checkpoint', 'describe', 'extend_saving', 'gathered', 'give_back_buffers',
           'give_back_gradients', 'is_before_validation', 'own_buffers', 'own_part', 'position_of', 'read_section',
           'remove_unfinished', 'settings_of', 'state_on_this_rank']
