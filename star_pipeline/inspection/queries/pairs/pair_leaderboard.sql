-- Which pairs make good data?
-- A row a pair, highest mean pi first, over all candidates that were made. Intervals are of 95%: Wilson's for rates, the normal
-- approximation for means (null below two values); where two of them overlap, the lake does not tell which pair is better.
-- mean_pi, win_rate and probability may put another pair first each: pi weighs the gap and the verdict of a candidate, the win rate the
-- verdict alone, and the probability is that of being drawn first: by Eq. 8 a pair also rises by being drawn often, by Thompson sampling
-- it is the chance that the pair is the best.
-- selected: candidates that are their seed's choice (a seed's own response counts for the pair seed alone)
-- tied: ties, and verdicts that turned round with the order
-- win_rate: better / (better + worse + tied)
-- cost_usd: the pair's candidates and their verdicts; what pairs share is booked on the first
-- probability: after the last shard; null for a pair that is not sampled
WITH latest AS (
    SELECT pair_id, probability
    FROM agent_pair_probabilities
    WHERE shard = (SELECT max(shard) FROM agent_pair_probabilities)
),
counted AS (
    SELECT
        c.pair_id,
        count(*) AS candidates,
        count(*) FILTER (WHERE c.status = 'failed') AS failed,
        count(*) FILTER (WHERE s.selected AND (s.selection <> 'fallback_seed' OR c.pair_id = 'seed')) AS selected,
        avg(s.pi) AS mean_pi,
        mean_low(s.pi) AS mean_pi_low,
        mean_high(s.pi) AS mean_pi_high,
        avg(i.gap) AS mean_gap,
        mean_low(i.gap) AS mean_gap_low,
        mean_high(i.gap) AS mean_gap_high,
        avg(s.pi_llm) AS mean_pi_llm,
        count(*) FILTER (WHERE v.verdict = 'better') AS better,
        count(*) FILTER (WHERE v.verdict = 'worse') AS worse,
        count(*) FILTER (WHERE v.verdict IN ('tie', 'inconsistent')) AS tied,
        sum(c.cost_usd) + coalesce(sum(v.cost_usd), 0) AS cost_usd
    FROM candidates AS c
    LEFT JOIN composite_scores AS s USING (candidate_id)
    LEFT JOIN ifd_scores AS i USING (candidate_id)
    LEFT JOIN judge_verdicts AS v USING (candidate_id)
    GROUP BY c.pair_id
)
SELECT
    pair_id,
    candidates,
    failed,
    selected,
    selected / candidates AS selected_rate,
    wilson_low(selected, candidates) AS selected_rate_low,
    wilson_high(selected, candidates) AS selected_rate_high,
    mean_pi,
    mean_pi_low,
    mean_pi_high,
    mean_gap,
    mean_gap_low,
    mean_gap_high,
    mean_pi_llm,
    better,
    worse,
    tied,
    better / nullif(better + worse + tied, 0) AS win_rate,
    wilson_low(better, better + worse + tied) AS win_rate_low,
    wilson_high(better, better + worse + tied) AS win_rate_high,
    cost_usd,
    probability
FROM counted
LEFT JOIN latest USING (pair_id)
ORDER BY mean_pi DESC NULLS LAST, pair_id
