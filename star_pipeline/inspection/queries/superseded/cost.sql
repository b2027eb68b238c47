-- What did the tables cost by stage, agent and pair?
-- Superseded by costs, which has the same a shard; sum it.
-- stage: rewrite, respond, judge or grade
-- agent: the agent that was asked
-- requests: sent to it, retries and re-asks counted in
SELECT
    stage,
    agent,
    pair_id,
    sum(requests)::BIGINT AS requests,
    sum(prompt_tokens)::BIGINT AS prompt_tokens,
    sum(completion_tokens)::BIGINT AS completion_tokens,
    sum(cost_usd) AS cost_usd
FROM costs
GROUP BY stage, agent, pair_id
ORDER BY cost_usd DESC, requests DESC, stage, agent, pair_id
