"""What every search stands on: validation batches, resuming, course, log, provenance, and the file it writes."""
from .artefact import ArtefactFormat, is_name, is_number, require
from .course import Course
from .optimizer_response import Clipping, StepWatch, clipping_of
from .run import SearchOptions, SearchRun
from .stream import BatchStream, seed_generators
from .validation import naming_samples

__all__ = ['ArtefactFormat', 'BatchStream', 'Clipping', 'Course', 'SearchOptions', 'SearchRun', 'StepWatch', 'clipping_of',
           'is_name', 'is_number', 'naming_samples', 'require', 'seed_generators']
