-- Can the judge be trusted with a pair: how often it reversed itself when the order was swapped, which position it favoured then,
-- and how often the longer of the two answers won.
WITH judged AS (
    SELECT
        v.*,
        c.pair_id,
        length(c.response) - length(r.response) AS longer_by
    FROM judge_verdicts AS v
    JOIN candidates AS c USING (candidate_id)
    LEFT JOIN candidates AS r ON r.candidate_id = v.base_candidate_id
    WHERE v.verdict NOT IN ('skipped', 'failed', 'unparsed')
)
SELECT
    pair_id,
    count(*) AS judged,
    count(*) FILTER (WHERE flipped) AS flipped,
    round(count(*) FILTER (WHERE flipped) / count(*), 4) AS flip_rate,
    count(*) FILTER (WHERE flipped AND verdict_first = 'better') AS flips_towards_first,
    count(*) FILTER (WHERE flipped AND verdict_first = 'worse') AS flips_towards_second,
    count(*) FILTER (WHERE verdict IN ('better', 'worse') AND longer_by <> 0) AS decided,
    round(
        count(*) FILTER (WHERE (verdict = 'better' AND longer_by > 0) OR (verdict = 'worse' AND longer_by < 0))
        / nullif(count(*) FILTER (WHERE verdict IN ('better', 'worse') AND longer_by <> 0), 0),
        4
    ) AS longer_won
FROM judged
GROUP BY pair_id
ORDER BY flip_rate DESC, pair_id
