"""The one mechanism under searches and studies: pure tasks, pools that run them, a ledger that keeps each result once.

`task.py` says what a task is, `pool.py` runs tasks in this process, `dispatch.py` hands them to workers (it knows no
ray; those of `simulation.py` exist only there), `ray_pool.py` and `ray_workers.py` alone import ray, `ledger.py` is the
checkpoint, `run_folder.py` the folder around it. Nothing here knows of images.
"""

from mddes.tasks.ledger import Ledger
from mddes.tasks.pool import Pool, SerialPool, complete
from mddes.tasks.task import Record, Task

__all__ = ["Ledger", "Pool", "Record", "SerialPool", "Task", "complete"]
