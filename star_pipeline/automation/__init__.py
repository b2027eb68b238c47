"""What happens by itself, and only when asked: the seed sensor, the nightly schedule, and the data set that follows its shards."""

from star_pipeline.defs.schedules import nightly, publish_follows
from star_pipeline.defs.seed_sensor import seed_files_sensor

SENSORS = [seed_files_sensor, publish_follows]
SCHEDULES = [nightly]

__all__ = ["SCHEDULES", "SENSORS"]
