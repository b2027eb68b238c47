-- Which pair is best for which kind of task?
-- A row a task domain and pair that made candidates there, best mean pi first; all candidates of the domain's seeds count, not
-- only the selected ones. Intervals as in pair_leaderboard.
-- domain: 0 is the largest
-- selected: candidates that are their seed's choice
-- compared: candidates that the judge compared with the reference and came to a verdict on
-- wins: judged better than the reference
-- win_rate: wins / compared
-- too_few: fewer than 20 candidates with a pi, too few to say anything
-- place: by mean pi among the domain's pairs that have enough candidates
-- ahead: it is first, and its interval of the mean lies above those of all the others that have enough
WITH counted AS (
    SELECT
        d.domain,
        any_value(d.domain_name) AS domain_name,
        c.pair_id,
        count(*) AS candidates,
        count(*) FILTER (WHERE s.selected AND (s.selection <> 'fallback_seed' OR c.pair_id = 'seed')) AS selected,
        count(*) FILTER (WHERE v.verdict IN ('better', 'worse', 'tie', 'inconsistent')) AS compared,
        count(*) FILTER (WHERE v.verdict = 'better') AS wins,
        count(s.pi) < 20 AS too_few,
        avg(s.pi) AS mean_pi,
        mean_low(s.pi) AS mean_pi_low,
        mean_high(s.pi) AS mean_pi_high
    FROM task_domains AS d
    JOIN candidates AS c USING (seed_id)
    LEFT JOIN composite_scores AS s ON s.candidate_id = c.candidate_id
    LEFT JOIN judge_verdicts AS v ON v.candidate_id = c.candidate_id
    GROUP BY d.domain, c.pair_id
),
placed AS (
    SELECT
        *,
        CASE WHEN NOT too_few THEN row_number() OVER best END AS place,
        max(mean_pi_high) FILTER (WHERE NOT too_few) OVER (
            best ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW
        ) AS others_high
    FROM counted
    WINDOW best AS (PARTITION BY domain ORDER BY too_few, mean_pi DESC, pair_id)
)
SELECT
    domain,
    domain_name,
    pair_id,
    candidates,
    selected,
    compared,
    wins,
    wins / nullif(compared, 0) AS win_rate,
    wilson_low(wins, compared) AS win_rate_low,
    wilson_high(wins, compared) AS win_rate_high,
    mean_pi,
    mean_pi_low,
    mean_pi_high,
    too_few,
    place,
    coalesce(place = 1 AND mean_pi_low > others_high, false) AS ahead
FROM placed
ORDER BY domain, too_few, mean_pi DESC NULLS LAST, pair_id
