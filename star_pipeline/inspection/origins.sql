-- Which configuration made each table of a shard, as the files say themselves, with its settings. Parameter: the files.
WITH said AS (
    SELECT
        parse_path(file_name)[-2] AS made,
        parse_filename(file_name, true) AS shard,
        any_value(decode(value)) FILTER (WHERE decode(key) = 'config_fingerprint') AS fingerprint,
        any_value(decode(value)) FILTER (WHERE decode(key) = 'config_name') AS name,
        any_value(decode(value)) FILTER (WHERE decode(key) = 'config_settings') AS settings
    FROM parquet_kv_metadata(?)
    GROUP BY file_name
)
SELECT made, shard, fingerprint, name, settings
FROM said
WHERE fingerprint IS NOT NULL
ORDER BY shard, made
