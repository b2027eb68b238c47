-- Which tables would be other ones if they were made now?
-- A row a table of a shard and what has changed; empty where all is up to date. A changed configuration does not count: it holds for
-- what is made next (see configs). It tells of the moment when the file was made; star-pipeline doctor tells of now.
SELECT shard, asset, because, remedy
FROM stale_tables
ORDER BY shard, asset, because
