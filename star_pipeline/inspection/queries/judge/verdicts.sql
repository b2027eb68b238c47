-- What did the judge say of each pair?
-- A row a pair and verdict. Intervals of 95%: Wilson's.
-- rows: candidates with this verdict
-- share: rows / all verdict rows of the pair, skipped and failed ones too
WITH counted AS (
    SELECT c.pair_id, v.verdict, count(*) AS rows, (sum(count(*)) OVER (PARTITION BY c.pair_id))::BIGINT AS of_pair
    FROM judge_verdicts AS v
    JOIN candidates AS c USING (candidate_id)
    GROUP BY c.pair_id, v.verdict
)
SELECT
    pair_id,
    verdict,
    rows,
    rows / of_pair AS share,
    wilson_low(rows, of_pair) AS share_low,
    wilson_high(rows, of_pair) AS share_high
FROM counted
ORDER BY pair_id, rows DESC, verdict
