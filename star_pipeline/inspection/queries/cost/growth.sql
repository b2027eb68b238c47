-- What do the tables cost as they grow?
-- A row a shard, in order, with running totals.
-- requests: sent to agents and judge, retries and re-asks counted in
-- tokens: sent and received
-- llm_seconds: spent waiting for the agents, side by side ones summed; the judge's time is not recorded
-- remembered: best rows that the shard put into the memory bank
-- bank_size: what the memory bank held after the shard
-- probabilities_moved: half the sum of what the pairs' probabilities changed by: the share that moved from pair to pair
WITH floors AS (
    SELECT o.shard, any_value((c.settings::JSON->'memory'->>'min_pi')::DOUBLE) AS min_pi
    FROM origins AS o
    JOIN configs AS c USING (fingerprint)
    WHERE o.made = 'composite_scores'
    GROUP BY o.shard
),
seeds AS (SELECT shard, count(*) AS seeds FROM seed_shards GROUP BY shard),
generated AS (
    SELECT
        shard,
        count(*) AS candidates,
        sum(attempts)::BIGINT AS requests,
        sum(prompt_tokens + completion_tokens)::BIGINT AS tokens,
        sum(cost_usd) AS cost_usd,
        sum(latency_s) AS llm_seconds
    FROM candidates
    GROUP BY shard
),
judged AS (
    SELECT
        shard,
        sum(attempts)::BIGINT AS requests,
        sum(prompt_tokens + completion_tokens)::BIGINT AS tokens,
        sum(cost_usd) AS cost_usd
    FROM judge_verdicts
    GROUP BY shard
),
kept AS (
    SELECT s.shard, count(*) FILTER (WHERE s.selection = 'best' AND s.pi >= coalesce(f.min_pi, 0)) AS remembered
    FROM composite_scores AS s
    LEFT JOIN floors AS f USING (shard)
    GROUP BY s.shard
),
moved AS (
    SELECT shard, sum(abs(probability - probability_before)) / 2 AS probabilities_moved
    FROM agent_pair_probabilities
    GROUP BY shard
),
by_shard AS (
    SELECT
        q.shard,
        q.seeds,
        coalesce(g.candidates, 0) AS candidates,
        coalesce(g.requests, 0) + coalesce(j.requests, 0) AS requests,
        coalesce(g.tokens, 0) + coalesce(j.tokens, 0) AS tokens,
        coalesce(g.cost_usd, 0) + coalesce(j.cost_usd, 0) AS cost_usd,
        coalesce(g.llm_seconds, 0) AS llm_seconds,
        coalesce(k.remembered, 0) AS remembered,
        m.probabilities_moved
    FROM seeds AS q
    LEFT JOIN generated AS g USING (shard)
    LEFT JOIN judged AS j USING (shard)
    LEFT JOIN kept AS k USING (shard)
    LEFT JOIN moved AS m USING (shard)
)
SELECT
    shard,
    CAST(split_part(shard, '-', 1) AS INTEGER) AS shard_number,
    seeds,
    candidates,
    requests,
    tokens,
    cost_usd,
    llm_seconds,
    remembered,
    probabilities_moved,
    (sum(seeds) OVER so_far)::BIGINT AS total_seeds,
    (sum(candidates) OVER so_far)::BIGINT AS total_candidates,
    (sum(requests) OVER so_far)::BIGINT AS total_requests,
    (sum(tokens) OVER so_far)::BIGINT AS total_tokens,
    sum(cost_usd) OVER so_far AS total_cost_usd,
    sum(llm_seconds) OVER so_far AS total_llm_seconds,
    (sum(remembered) OVER so_far)::BIGINT AS bank_size
FROM by_shard
WINDOW so_far AS (ORDER BY shard)
ORDER BY shard
