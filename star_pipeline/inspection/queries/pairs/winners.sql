-- How do the pairs stand, in short?
-- The columns of pair_leaderboard that fit a terminal, highest mean pi first. Where two intervals (mean_pi_low to mean_pi_high) overlap,
-- the lake does not tell which pair is better.
-- win_rate: judged better than the reference / judged
-- probability: after the last shard; null for a pair that is not sampled
SELECT
    pair_id,
    candidates,
    failed,
    selected,
    round(win_rate, 4) AS win_rate,
    round(mean_pi, 4) AS mean_pi,
    round(mean_pi_low, 4) AS mean_pi_low,
    round(mean_pi_high, 4) AS mean_pi_high,
    round(probability, 4) AS probability
FROM pair_leaderboard
