-- Which position does the judge favour?
-- A row a judge (the majority of several has no place). Only a verdict that turns round with the order tells: it chose the same position both times. A judge without a leaning
-- chooses each half of the time. Intervals of 95%: Wilson's.
-- judged: candidates that it came to a verdict on
-- flipped: a win in one order was a loss in the other
-- towards_first: of these, how often it chose answer A both times
-- towards_second: how often it chose answer B both times
-- towards_first_rate: towards_first / flipped; 0.5 is no leaning
WITH counted AS (
    SELECT
        judge_agent,
        count(*) AS judged,
        count(*) FILTER (WHERE flipped) AS flipped,
        count(*) FILTER (WHERE flipped AND verdict_first = 'better') AS towards_first,
        count(*) FILTER (WHERE flipped AND verdict_first = 'worse') AS towards_second
    FROM judge_opinions
    WHERE verdict IN ('better', 'worse', 'tie', 'inconsistent')
    GROUP BY judge_agent
)
SELECT
    judge_agent,
    judged,
    flipped,
    flipped / judged AS flip_rate,
    wilson_low(flipped, judged) AS flip_rate_low,
    wilson_high(flipped, judged) AS flip_rate_high,
    towards_first,
    towards_second,
    towards_first / nullif(flipped, 0) AS towards_first_rate,
    wilson_low(towards_first, flipped) AS towards_first_rate_low,
    wilson_high(towards_first, flipped) AS towards_first_rate_high
FROM counted
ORDER BY judge_agent
