"""Several processes of one run on this machine, started as torchrun starts them.

What torchrun itself would print, a traceback at every end that is no success, stays away: the
processes tell what is wrong.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `avsal` with the same arguments in several processes that know each other.

    Returns:
        The command's exit code: 0, that of the first process that failed, 128 + n after signal n.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # Networks may have weights without influence, so that DistributedDataParallel looks for them,
    # and warns where there are none.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    given = ["--standalone", f"--nproc-per-node={processes}", "-m", "avsal", *arguments]
    logging.disable(logging.ERROR)  # what torchrun says of processes that end
    try:
        run(parse_args(given))
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except ChildFailedError as failed:
        code = int(failed.get_first_failure()[1].exitcode)
        return code if code > 0 else 128 - code
    finally:
        logging.disable(logging.NOTSET)
    return 0
