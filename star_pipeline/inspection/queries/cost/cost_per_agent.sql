-- What did each agent cost, and for what?
-- A row an agent and stage.
-- stage: rewrite, respond or judge
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
