-- The sampled seeds, in the order of the shards.
SELECT q.seed_id, q.shard, q.source, q.source_row, q.system, q.history, q.instruction, q.response,
    d.domain_name, d.near_duplicate_of, l.reason AS left_out, l.detail AS left_out_detail
FROM chosen JOIN seed_shards AS q USING (seed_id)
LEFT JOIN task_domains AS d USING (seed_id)
LEFT JOIN left_out_rows AS l USING (seed_id)
ORDER BY q.shard, q.source, q.source_row, q.seed_id
