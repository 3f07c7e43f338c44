"""What happens to loaders of data."""
import traceback
from contextlib import contextmanager
from typing import Iterator

from .errors import DistillationError


@contextmanager
def naming_dead_workers() -> Iterator[None]:
    """Says so where a worker of a data loader has ended before its batch was taken over.

    torch has an error of its own for workers that end ("DataLoader worker (pid ...) is killed by signal"), but where the
    main process is just fetching the memory of a batch from the worker, it finds a connection that is reset.

    Raises:
        DistillationError: in place of the error of the connection.
    """
    try:
        yield
    except (OSError, EOFError) as error:
        called = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
        if 'rebuild_storage_fd' not in called:  # where torch fetches it
            raise
        raise DistillationError(f'a DataLoader worker has ended before its batch was taken over ({error})',
                                hint='Was it killed, for memory? With num_workers=0 the error of a data set is seen.'
                                ) from error
