-- Does the longer answer win?
-- A row a pair and range of length ratio; then over all pairs ('all pairs'), and over all ratios (ratio_low and ratio_high null).
-- The ratio is the candidate's characters / the reference's; a judge without bias, and pairs as good at any length, give one win rate
-- in all ranges. Intervals of 95%: Wilson's.
-- ratio_low: from here; 0 in the first range
-- ratio_high: to below here; null in the last range
-- won: judged better than the reference
-- win_rate: won / compared
-- decided: better or worse, of responses that differ in length
-- longer_won: how often the longer response won, of those decided
WITH ranged AS (
    SELECT
        *,
        CASE
            WHEN ratio < 0.5 THEN 0
            WHEN ratio < 0.8 THEN 0.5
            WHEN ratio < 1.25 THEN 0.8
            WHEN ratio < 2 THEN 1.25
            ELSE 2
        END::DOUBLE AS ratio_low
    FROM (SELECT *, characters / greatest(reference_characters, 1) AS ratio FROM comparisons)
),
counted AS (
    SELECT
        CASE WHEN grouping(pair_id) = 1 THEN 'all pairs' ELSE pair_id END AS pair_id,
        ratio_low,
        count(*) AS compared,
        count(*) FILTER (WHERE verdict = 'better') AS won,
        count(*) FILTER (WHERE verdict IN ('better', 'worse') AND characters <> reference_characters) AS decided,
        count(*) FILTER (
            WHERE (verdict = 'better' AND characters > reference_characters)
            OR (verdict = 'worse' AND characters < reference_characters)
        ) AS longer_won
    FROM ranged
    GROUP BY CUBE (ranged.pair_id, ratio_low)
)
SELECT
    pair_id,
    ratio_low,
    CASE ratio_low WHEN 0 THEN 0.5 WHEN 0.5 THEN 0.8 WHEN 0.8 THEN 1.25 WHEN 1.25 THEN 2 END::DOUBLE AS ratio_high,
    compared,
    won,
    won / compared AS win_rate,
    wilson_low(won, compared) AS win_rate_low,
    wilson_high(won, compared) AS win_rate_high,
    decided,
    longer_won,
    longer_won / nullif(decided, 0) AS longer_won_rate,
    wilson_low(longer_won, decided) AS longer_won_rate_low,
    wilson_high(longer_won, decided) AS longer_won_rate_high
FROM counted
WHERE compared > 0
ORDER BY pair_id = 'all pairs' DESC, pair_id, ratio_low NULLS FIRST
