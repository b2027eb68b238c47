-- What was paid in all (the journal), beside what the tables put to use?
-- A row an agent and stage. A reply to a table that was dropped or made anew since stays paid.
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
