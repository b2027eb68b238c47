-- What was paid for each agent and stage (the journal), beside what the tables put to use?
-- Superseded by paid_per_agent, where these columns are paid_usd and used_usd.
-- replies: replies paid by this lake
-- cost_usd: USD for these replies
-- in_tables_usd: USD that the tables book for this agent and stage
-- reservations: tries in flight, or whose fate nobody knows; only with a budget
-- reserved_usd: what these may have cost at most
SELECT
    s.agent,
    s.stage,
    s.replies,
    s.prompt_tokens,
    s.completion_tokens,
    s.cost_usd,
    coalesce(c.cost_usd, 0) AS in_tables_usd,
    s.reservations,
    s.reserved_usd
FROM spend AS s
LEFT JOIN (SELECT agent, stage, sum(cost_usd) AS cost_usd FROM costs GROUP BY agent, stage) AS c USING (agent, stage)
ORDER BY s.cost_usd DESC, s.agent, s.stage
