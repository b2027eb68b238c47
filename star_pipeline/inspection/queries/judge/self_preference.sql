-- Does the judge prefer what its own model wrote?
-- A row a judge and kind of comparison, by who wrote the two responses: the judge's model (the judge itself, or another agent of the same
-- model) or another one. A seed's own response, written by no agent, is another's. Preference shows where 'candidate' has a higher
-- win_rate than 'neither', and 'reference' a lower one; that may also be merit, so hold it against another judge's verdicts.
-- Intervals of 95%: Wilson's.
-- own: what the judge's model wrote: candidate, reference, both, or neither
-- won: the candidate was judged better than the reference
-- lost: the candidate was judged worse
-- tied: ties, and verdicts that turned round with the order
-- win_rate: won / compared
-- own_win_rate: how often the judge's model won, of all compared; null for both and neither
WITH sided AS (
    SELECT
        judge_agent,
        judge_model,
        CASE
            WHEN candidate_own AND reference_own THEN 'both'
            WHEN candidate_own THEN 'candidate'
            WHEN reference_own THEN 'reference'
            ELSE 'neither'
        END AS own,
        verdict
    FROM (
        SELECT
            *,
            coalesce(response_agent = judge_agent OR response_model = judge_model, false) AS candidate_own,
            coalesce(reference_agent = judge_agent OR reference_model = judge_model, false) AS reference_own
        FROM comparisons
    )
),
counted AS (
    SELECT
        judge_agent,
        judge_model,
        own,
        count(*) AS compared,
        count(*) FILTER (WHERE verdict = 'better') AS won,
        count(*) FILTER (WHERE verdict = 'worse') AS lost,
        count(*) FILTER (WHERE verdict IN ('tie', 'inconsistent')) AS tied,
        CASE own WHEN 'candidate' THEN won WHEN 'reference' THEN lost END AS own_won
    FROM sided
    GROUP BY judge_agent, judge_model, own
)
SELECT
    judge_agent,
    judge_model,
    own,
    compared,
    won,
    lost,
    tied,
    won / compared AS win_rate,
    wilson_low(won, compared) AS win_rate_low,
    wilson_high(won, compared) AS win_rate_high,
    own_won / compared AS own_win_rate,
    wilson_low(own_won, compared) AS own_win_rate_low,
    wilson_high(own_won, compared) AS own_win_rate_high
FROM counted
ORDER BY judge_agent, judge_model, own
