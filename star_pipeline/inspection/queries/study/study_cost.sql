-- What does each arm cost, to make its rows, to train on it and to judge its models?
-- A row an arm, and one of the untuned target where that was measured. The rows of every arm but seeds are chosen from the same candidates, so their costs are not to be added up. Training is
-- paid in time: the tokens are those of the responses in one epoch of one training.
-- rule: how a row of each seed was chosen; lake: what another lake selected; untuned: there are no rows
-- rows_usd: calls that made the candidates it chooses from, and their verdicts where its rule looks at them; null: another lake's
-- tokens: response tokens of all rows
-- tokens_beside_seeds: tokens over those of the arm seeds, minus 1
-- left_out_overlap: seeds left out of every arm, since they overlap with a question
-- left_out_otherwise: seeds left out of every arm, for an empty response, or since another lake lacks them
-- trainings: its models that were measured, over targets and training seeds
-- requests: to the judge, retries counted in
-- judged_usd: what comparing and grading its models' answers cost
WITH made AS (
    SELECT
        coalesce(sum(cost_usd) FILTER (WHERE stage <> 'judge'), 0) AS candidates_usd,
        coalesce(sum(cost_usd) FILTER (WHERE stage = 'judge'), 0) AS verdicts_usd
    FROM costs
),
judged AS (
    SELECT arm, sum(attempts)::BIGINT AS requests, sum(cost_usd) AS cost_usd
    FROM (SELECT arm, attempts, cost_usd FROM study_wins UNION ALL SELECT arm, attempts, cost_usd FROM study_grades)
    GROUP BY arm
),
trained AS (
    SELECT arm, count(DISTINCT (target, seed)) AS trainings
    FROM (
        SELECT arm, target, seed FROM study_losses
        UNION ALL SELECT arm, target, seed FROM study_wins
        UNION ALL SELECT baseline, target, seed FROM study_wins
        UNION ALL SELECT arm, target, seed FROM study_grades
        UNION ALL SELECT arm, target, seed FROM study_tasks
    )
    GROUP BY arm
)
SELECT * FROM (
SELECT
    a.arm,
    a.rule,
    a.rows,
    a.tokens,
    a.tokens / nullif((SELECT s.tokens FROM study_arms AS s WHERE s.arm = 'seeds'), 0) - 1 AS tokens_beside_seeds,
    a.left_out_overlap,
    a.left_out_empty + a.left_out_elsewhere AS left_out_otherwise,
    CASE
        WHEN a.rule = 'seeds' THEN 0
        WHEN a.rule = 'lake' THEN NULL
        WHEN a.rule IN ('judge', 'star') THEN m.candidates_usd + m.verdicts_usd
        ELSE m.candidates_usd
    END AS rows_usd,
    coalesce(t.trainings, 0) AS trainings,
    coalesce(j.requests, 0) AS requests,
    coalesce(j.cost_usd, 0) AS judged_usd
FROM study_arms AS a
CROSS JOIN made AS m
LEFT JOIN judged AS j USING (arm)
LEFT JOIN trained AS t USING (arm)
ORDER BY a.rowid
)
UNION ALL
SELECT t.arm, t.arm, 0, 0, NULL, 0, 0, 0, t.trainings, coalesce(j.requests, 0), coalesce(j.cost_usd, 0)
FROM trained AS t
LEFT JOIN judged AS j USING (arm)
WHERE t.arm = 'untuned'
