-- What was paid in all (the journal), beside what the tables put to use: a dropped table's replies stay paid
SELECT s.agent, s.stage, s.replies, s.prompt_tokens, s.completion_tokens, s.cost_usd, coalesce(c.cost_usd, 0) AS in_tables_usd,
    s.reservations, s.reserved_usd
FROM spend AS s LEFT JOIN (SELECT agent, stage, sum(cost_usd) AS cost_usd FROM costs GROUP BY ALL) AS c USING (agent, stage)
ORDER BY s.cost_usd DESC, s.agent, s.stage
