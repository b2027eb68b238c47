"""Where the lake's objects lie: a folder, or a bucket of S3 behind the same port (``core.ports.Store``)."""
