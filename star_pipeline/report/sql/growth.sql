-- What was spent as the lake grew: cumulative seeds, requests, tokens and USD, by shard and stage.
WITH places AS (
    SELECT shard, count(*) AS seeds, sum(count(*)) OVER (ORDER BY shard)::BIGINT AS all_seeds FROM seed_shards GROUP BY shard
),
spent AS (
    SELECT shard, stage, sum(requests) AS requests, sum(prompt_tokens + completion_tokens) AS tokens, sum(cost_usd) AS cost_usd
    FROM costs GROUP BY shard, stage
)
SELECT p.shard, p.all_seeds AS seeds, t.stage,
    (sum(coalesce(s.requests, 0)) OVER so_far)::BIGINT AS requests,
    (sum(coalesce(s.tokens, 0)) OVER so_far)::BIGINT AS tokens,
    sum(coalesce(s.cost_usd, 0)) OVER so_far AS cost_usd
FROM places AS p
CROSS JOIN (SELECT DISTINCT stage FROM costs) AS t
LEFT JOIN spent AS s ON s.shard = p.shard AND s.stage = t.stage
WINDOW so_far AS (PARTITION BY t.stage ORDER BY p.shard)
ORDER BY p.shard, t.stage
