"""One thread for torch and for the linear-algebra libraries, restored afterwards.

Weights trained on one and on two threads differ in the last bits, and multi-threaded BLAS makes CMA-ES on small
matrices many times slower: driver and training both run inside `one_thread()`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the body with one torch thread and one BLAS / OpenMP thread.

    >>> before = torch.get_num_threads()
    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    >>> torch.get_num_threads() == before
    True
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)
