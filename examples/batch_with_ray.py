"""Predict a folder of videos on a Ray cluster: python batch_with_ray.py FOLDER OUT [ADDRESS]

Without an address, the cores of this machine are the cluster. `avsal batch FOLDER -o OUT --ray`
does the same; this script is for programs that need each result as it is finished.
"""

import sys
from pathlib import Path

import avsal
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results.cluster import LOCAL, STRETCH, Worker, predict_on_cluster
from avsal.results.plan import plan_folder

if len(sys.argv) not in (3, 4):
    sys.exit(__doc__)
folder, out = map(Path, sys.argv[1:3])
address = sys.argv[3] if len(sys.argv) > 3 else LOCAL
worker = Worker(
    load=avsal.load_model,
    settings=PredictSettings(),
    output=OutputSettings(),
    skip_existing=True,
    length=STRETCH,
)
plan = plan_folder(folder, out)
for place, result, seconds in predict_on_cluster(plan, worker, address, threads=1):
    source, result_folder = plan[place]
    if isinstance(result, Exception):
        print(f"{source}: {result}")
    elif result is None:
        print(f"{result_folder}: exists already")
    else:
        print(f"{result_folder}: {result} maps in {seconds:.1f} s")
