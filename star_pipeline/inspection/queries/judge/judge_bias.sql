-- Can the judge be trusted: does it turn round when the order does, which position does it favour, does the longer answer win?
-- A row a pair, most reversals first. Intervals of 95%: Wilson's.
-- judged: candidates that it came to a verdict on
-- flipped: a win in one order was a loss in the other; it decides nothing where judge.mode is logprobs
-- flips_towards_first: of these, how often it chose answer A both times
-- flips_towards_second: how often it chose answer B both times
-- decided: better or worse, of responses that differ in length
-- longer_won: how often the longer response won, of those decided (by length: see length_bias)
WITH counted AS (
    SELECT
        pair_id,
        count(*) AS judged,
        count(*) FILTER (WHERE flipped) AS flipped,
        count(*) FILTER (WHERE flipped AND verdict_first = 'better') AS flips_towards_first,
        count(*) FILTER (WHERE flipped AND verdict_first = 'worse') AS flips_towards_second,
        count(*) FILTER (WHERE verdict IN ('better', 'worse') AND characters <> reference_characters) AS decided,
        count(*) FILTER (
            WHERE (verdict = 'better' AND characters > reference_characters)
            OR (verdict = 'worse' AND characters < reference_characters)
        ) AS longer
    FROM comparisons
    GROUP BY pair_id
)
SELECT
    pair_id,
    judged,
    flipped,
    flipped / judged AS flip_rate,
    wilson_low(flipped, judged) AS flip_rate_low,
    wilson_high(flipped, judged) AS flip_rate_high,
    flips_towards_first,
    flips_towards_second,
    decided,
    longer / nullif(decided, 0) AS longer_won,
    wilson_low(longer, decided) AS longer_won_low,
    wilson_high(longer, decided) AS longer_won_high
FROM counted
ORDER BY flip_rate DESC, pair_id
