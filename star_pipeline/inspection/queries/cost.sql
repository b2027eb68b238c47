-- What it cost: requests, tokens and USD by stage, agent and pair
SELECT stage, agent, pair_id, sum(requests) AS requests, sum(prompt_tokens) AS prompt_tokens,
    sum(completion_tokens) AS completion_tokens, round(sum(cost_usd), 6) AS cost_usd
FROM costs GROUP BY stage, agent, pair_id ORDER BY cost_usd DESC, requests DESC
