-- What failed how often?
-- A row a stage, pair and kind of failure, most frequent first.
-- stage: generate, score or judge
-- example: one of the reasons, in full
SELECT stage, pair_id, kind, count(*) AS times, min(reason) AS example
FROM failures
GROUP BY stage, pair_id, kind
ORDER BY times DESC, stage, pair_id, kind
