-- What failed, by stage and reason.
SELECT stage, kind, sum(times)::BIGINT AS times, count(DISTINCT pair_id) AS pairs, min(example) AS example
FROM failure_kinds GROUP BY stage, kind ORDER BY times DESC, stage, kind
