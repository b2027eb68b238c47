-- Which selected rows did the settings keep out of the final data set, and why?
-- A row a seed; empty with the default settings.
-- reason: overlap, fallback, min_pi, near_duplicate, top_share or rows: the setting under dataset that kept it out
-- detail: the same in words
SELECT
    l.reason,
    l.detail,
    e.source,
    e.source_row,
    l.seed_id,
    l.shard,
    l.candidate_id,
    CASE WHEN s.selection = 'fallback_seed' THEN 'seed' ELSE s.pair_id END AS pair_id,
    s.selection,
    s.pi,
    s.gap,
    CASE WHEN s.selection = 'fallback_seed' THEN q.instruction ELSE c.instruction END AS instruction
FROM left_out_rows AS l
JOIN composite_scores AS s USING (candidate_id)
JOIN candidates AS c USING (candidate_id)
JOIN seed_shards AS q ON q.seed_id = l.seed_id
LEFT JOIN seed_catalog AS e ON e.seed_id = l.seed_id
ORDER BY e.source, e.source_row
