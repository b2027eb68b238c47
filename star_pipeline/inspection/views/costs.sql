-- What was paid: USD, tokens and requests per shard, stage, agent and pair. What several rows share is booked on the first of them.
SELECT
    c.shard,
    'rewrite' AS stage,
    p.instruction_agent AS agent,
    c.pair_id,
    sum(c.rewrite_attempts) AS requests,
    sum(c.rewrite_prompt_tokens) AS prompt_tokens,
    sum(c.rewrite_completion_tokens) AS completion_tokens,
    sum(c.rewrite_cost_usd) AS cost_usd
FROM candidates AS c
JOIN sampling_plan AS p USING (candidate_id)
WHERE p.instruction_agent <> 'keep'
GROUP BY c.shard, agent, c.pair_id
UNION ALL
SELECT
    c.shard,
    'respond' AS stage,
    p.response_agent AS agent,
    c.pair_id,
    sum(c.attempts - c.rewrite_attempts),
    sum(c.prompt_tokens - c.rewrite_prompt_tokens),
    sum(c.completion_tokens - c.rewrite_completion_tokens),
    sum(c.cost_usd - c.rewrite_cost_usd)
FROM candidates AS c
JOIN sampling_plan AS p USING (candidate_id)
WHERE p.response_agent <> 'seed'
GROUP BY c.shard, agent, c.pair_id
UNION ALL
SELECT
    v.shard,
    'judge' AS stage,
    v.judge_agent AS agent,
    c.pair_id,
    sum(v.attempts),
    sum(v.prompt_tokens),
    sum(v.completion_tokens),
    sum(v.cost_usd)
FROM judge_verdicts AS v
JOIN candidates AS c USING (candidate_id)
WHERE v.judge_agent IS NOT NULL
GROUP BY v.shard, agent, c.pair_id
ORDER BY shard, stage, agent, pair_id
