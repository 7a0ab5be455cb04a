"""MLflow: one run per training, one registered version per accepted model. The only room that imports mlflow.

Importing this room is cheap: mlflow itself (more than a second) is imported when something is written.
"""

from plantops.tracking.home import rehome
from plantops.tracking.reach import Away
from plantops.tracking.spool import Replayed, Training
from plantops.tracking.tail import Tail
from plantops.tracking.tracker import Tracker

__all__ = ["Away", "Replayed", "Tail", "Tracker", "Training", "rehome"]
