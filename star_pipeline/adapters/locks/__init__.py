"""The lake's lock (``core.locking``): ``file`` for the processes of one machine, ``database`` for any machines; ``choosing`` says which."""

from star_pipeline.adapters.locks.choosing import lake_lock, lock_in

__all__ = ["lake_lock", "lock_in"]
