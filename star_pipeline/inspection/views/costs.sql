-- What was paid: USD, tokens and requests per shard, stage and pair.
SELECT
    shard,
    'generate' AS stage,
    pair_id,
    sum(attempts) AS requests,
    sum(prompt_tokens) AS prompt_tokens,
    sum(completion_tokens) AS completion_tokens,
    sum(cost_usd) AS cost_usd
FROM candidates
GROUP BY shard, pair_id
UNION ALL
SELECT
    v.shard,
    'judge' AS stage,
    c.pair_id,
    sum(v.attempts),
    sum(v.prompt_tokens),
    sum(v.completion_tokens),
    sum(v.cost_usd)
FROM judge_verdicts AS v
JOIN candidates AS c USING (candidate_id)
GROUP BY v.shard, c.pair_id
ORDER BY shard, stage, pair_id
