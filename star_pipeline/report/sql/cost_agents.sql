-- What each agent's work that is in the tables cost, by stage.
SELECT agent, stage, sum(requests)::BIGINT AS requests, sum(prompt_tokens)::BIGINT AS prompt_tokens,
    sum(completion_tokens)::BIGINT AS completion_tokens, sum(cost_usd) AS cost_usd
FROM costs GROUP BY agent, stage ORDER BY cost_usd DESC, requests DESC, agent, stage
