-- What did the tables cost by agent and stage?
-- Superseded by paid_per_agent: used_usd is this cost, paid_usd what was paid.
-- stage: rewrite, respond, judge or grade
-- requests: sent to it, retries and re-asks counted in
-- share: of all that was paid; null where nothing was
SELECT
    agent,
    stage,
    sum(requests)::BIGINT AS requests,
    sum(prompt_tokens)::BIGINT AS prompt_tokens,
    sum(completion_tokens)::BIGINT AS completion_tokens,
    sum(cost_usd) AS cost_usd,
    sum(cost_usd) / nullif(sum(sum(cost_usd)) OVER (), 0) AS share
FROM costs
GROUP BY agent, stage
ORDER BY cost_usd DESC, requests DESC, agent, stage
