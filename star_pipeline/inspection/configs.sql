-- Which configurations made the tables of shards, as the files say themselves. Parameter: the files.
WITH origin AS (
    SELECT
        parse_filename(file_name, true) AS shard,
        any_value(decode(value)) FILTER (WHERE decode(key) = 'config_fingerprint') AS fingerprint,
        any_value(decode(value)) FILTER (WHERE decode(key) = 'config_name') AS name,
        any_value(decode(value)) FILTER (WHERE decode(key) = 'config_settings') AS settings
    FROM parquet_kv_metadata(?)
    GROUP BY file_name
)
SELECT fingerprint, name, any_value(settings), min(shard), max(shard), count(*)
FROM origin
WHERE fingerprint IS NOT NULL
GROUP BY fingerprint, name
ORDER BY min(shard), max(shard), fingerprint, name
