-- What was paid in all, and how much of it is in the tables?
-- A row an agent and stage. Paid is what the journal tells of this lake's replies; used is what the tables book (sum of costs). They
-- differ once a table was made anew, say by --rejudge, or dropped: its replies stay paid.
-- stage: rewrite, respond, judge or grade
-- replies: paid by this lake
-- prompt_tokens: sent for these replies
-- completion_tokens: received in these replies
-- paid_usd: for these replies
-- used_usd: what the tables book for this agent and stage
-- unused_usd: paid_usd - used_usd: paid for what is no longer in the tables
-- share: of all that was paid; null where nothing was
-- reservations: tries in flight, or whose fate nobody knows; only with a budget
-- reserved_usd: what these may have cost at most, besides paid_usd
SELECT
    agent,
    stage,
    coalesce(s.replies, 0) AS replies,
    coalesce(s.prompt_tokens, 0) AS prompt_tokens,
    coalesce(s.completion_tokens, 0) AS completion_tokens,
    coalesce(s.cost_usd, 0) AS paid_usd,
    coalesce(c.cost_usd, 0) AS used_usd,
    round(coalesce(s.cost_usd, 0) - coalesce(c.cost_usd, 0), 12) AS unused_usd,
    coalesce(s.cost_usd, 0) / nullif(sum(s.cost_usd) OVER (), 0) AS share,
    coalesce(s.reservations, 0) AS reservations,
    coalesce(s.reserved_usd, 0) AS reserved_usd
FROM spend AS s
FULL JOIN (SELECT agent, stage, sum(cost_usd) AS cost_usd FROM costs GROUP BY agent, stage) AS c USING (agent, stage)
ORDER BY paid_usd DESC, replies DESC, agent, stage
