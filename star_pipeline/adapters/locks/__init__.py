"""The lake's lock (``core.locking``): in ``database`` for any machines, ``adapters.lock`` for those of one; ``choosing`` says which."""

from star_pipeline.adapters.locks.choosing import lake_lock, lock_in

__all__ = ["lake_lock", "lock_in"]
