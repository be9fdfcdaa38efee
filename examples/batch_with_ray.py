"""Predict a folder of videos on a Ray cluster: python batch_with_ray.py FOLDER OUT [ADDRESS]

Without an address, the cores of this machine are the cluster. `avsal batch FOLDER -o OUT --ray`
does the same; this script is for programs that need each result as it is finished.
"""

import argparse
from pathlib import Path

import avsal
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results.cluster import LOCAL, STRETCH, Worker, predict_on_cluster
from avsal.results.plan import plan_folder

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("address", nargs="?", default=LOCAL)
arguments = parser.parse_args()
worker = Worker(
    load=avsal.load_model,
    settings=PredictSettings(),
    output=OutputSettings(),
    skip_existing=True,
    length=STRETCH,
)
plan = plan_folder(arguments.folder, arguments.out)
for place, result, seconds in predict_on_cluster(plan, worker, arguments.address, threads=1):
    source, result_folder = plan[place]
    if isinstance(result, Exception):
        print(f"{source}: {result}")
    elif result is None:
        print(f"{result_folder}: exists already")
    else:
        print(f"{result_folder}: {result} maps in {seconds:.1f} s")
