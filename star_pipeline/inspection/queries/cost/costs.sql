-- What did the rows that are in the tables cost, shard by shard?
-- A row a shard, stage, agent and pair. What several rows share (an instruction rewritten once for several pairs) is booked on the first.
-- What was paid for tables that were made anew since is not in it: see paid_per_agent.
-- stage: rewrite, respond, judge or grade
-- agent: the agent that was asked
-- requests: sent to it, retries and re-asks counted in
SELECT
    c.shard,
    'rewrite' AS stage,
    p.instruction_agent AS agent,
    c.pair_id,
    sum(c.rewrite_attempts)::BIGINT AS requests,
    sum(c.rewrite_prompt_tokens)::BIGINT AS prompt_tokens,
    sum(c.rewrite_completion_tokens)::BIGINT AS completion_tokens,
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
    sum(c.attempts - c.rewrite_attempts)::BIGINT,
    sum(c.prompt_tokens - c.rewrite_prompt_tokens)::BIGINT,
    sum(c.completion_tokens - c.rewrite_completion_tokens)::BIGINT,
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
    sum(v.attempts)::BIGINT,
    sum(v.prompt_tokens)::BIGINT,
    sum(v.completion_tokens)::BIGINT,
    sum(v.cost_usd)
FROM judge_opinions AS v
JOIN candidates AS c USING (candidate_id)
GROUP BY v.shard, agent, c.pair_id
ORDER BY shard, stage, agent, pair_id
