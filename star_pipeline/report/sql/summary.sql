-- One row: what the lake holds.
SELECT
    (SELECT count(*) FROM seed_catalog WHERE live) AS seeds,
    (SELECT count(*) FROM seed_catalog WHERE NOT live) AS gone,
    (SELECT count(*) FROM rejected_rows) AS rejected_rows,
    (SELECT count(DISTINCT shard) FROM agent_pair_probabilities) AS shards_done,
    (SELECT count(DISTINCT shard) FROM seed_catalog) AS shards,
    (SELECT count(*) FROM candidates) AS candidates,
    (SELECT count(*) FROM candidates WHERE status = 'failed') AS failed,
    (SELECT count(*) FROM candidates AS c JOIN ifd_scores AS i USING (candidate_id)
     WHERE c.status <> 'failed' AND i.status <> 'ok') AS unscored,
    (SELECT count(*) FROM judge_verdicts WHERE verdict NOT IN ('skipped', 'failed', 'unparsed')) AS verdicts,
    (SELECT count(*) FROM judge_verdicts WHERE flipped) AS flipped,
    (SELECT count(*) FROM star_dataset) AS final_rows,
    (SELECT count(*) FROM star_dataset WHERE selection = 'best') AS best,
    (SELECT count(*) FROM left_out_rows) AS left_out,
    (SELECT avg(pi) FROM star_dataset) AS mean_pi,
    (SELECT coalesce(sum(cost_usd), 0) FROM costs) AS cost_usd,
    (SELECT coalesce(sum(requests), 0)::BIGINT FROM costs) AS requests,
    (SELECT coalesce(sum(prompt_tokens + completion_tokens), 0)::BIGINT FROM costs) AS tokens,
    (SELECT coalesce(sum(cost_usd), 0) FROM spend) AS paid_usd,
    (SELECT coalesce(sum(latency_s), 0) FROM candidates) AS latency_s,
    (SELECT string_agg(DISTINCT judge_agent, ', ') FROM judge_verdicts) AS judges
