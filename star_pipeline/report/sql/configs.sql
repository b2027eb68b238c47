-- The configurations that made the lake's tables, the latest first.
SELECT name, fingerprint, settings, first_shard, last_shard, tables FROM configs ORDER BY last_shard DESC, first_shard DESC, fingerprint
