-- The seeds of the browser: every stratum (pair, domain, verdict, selection, …) gives its first seeds in turn until there are $samples.
-- Within a stratum the order is a hash of the seed's id, so that it is the same each time; the extremes of pi are ordered by pi.
WITH live AS (
    SELECT q.seed_id, q.shard, q.source, md5(q.seed_id) AS draw FROM seed_shards AS q
    WHERE q.seed_id IN (SELECT seed_id FROM seed_catalog WHERE live)
),
top AS (
    SELECT seed_id, any_value(pair_id) FILTER (WHERE selected) AS pair_id, any_value(selection) FILTER (WHERE selected) AS selection,
        any_value(pi) FILTER (WHERE selected) AS pi
    FROM composite_scores GROUP BY seed_id
),
strata AS (
    SELECT 'any' AS stratum, seed_id, 0.0 AS first FROM live
    UNION ALL SELECT 'source ' || source, seed_id, 0 FROM live
    UNION ALL SELECT 'wins ' || pair_id, seed_id, 0 FROM top WHERE pair_id IS NOT NULL
    UNION ALL SELECT 'selection ' || selection, seed_id, 0 FROM top WHERE selection IS NOT NULL
    UNION ALL SELECT 'highest', seed_id, -pi FROM top WHERE pi IS NOT NULL
    UNION ALL SELECT 'lowest', seed_id, pi FROM top WHERE pi IS NOT NULL
    UNION ALL SELECT DISTINCT 'pair ' || pair_id, seed_id, 0 FROM candidates
    UNION ALL SELECT DISTINCT 'failed ' || error_kind, seed_id, 0 FROM candidates WHERE status = 'failed'
    UNION ALL SELECT DISTINCT 'verdict ' || verdict, seed_id, 0 FROM judge_verdicts
    UNION ALL SELECT DISTINCT 'flipped', seed_id, 0 FROM judge_verdicts WHERE flipped
    UNION ALL SELECT 'domain ' || domain_name, seed_id, 0 FROM task_domains
    UNION ALL SELECT 'near-duplicate', seed_id, 0 FROM task_domains WHERE near_duplicate_of <> seed_id
    UNION ALL SELECT 'left out ' || reason, seed_id, 0 FROM left_out_rows
),
turns AS (
    SELECT seed_id, row_number() OVER (PARTITION BY stratum ORDER BY first, draw) AS turn
    FROM strata JOIN live USING (seed_id)
    QUALIFY turn <= $samples
)
SELECT seed_id FROM turns GROUP BY seed_id ORDER BY min(turn), md5(seed_id) LIMIT $samples
