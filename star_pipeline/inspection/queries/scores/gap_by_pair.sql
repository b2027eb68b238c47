-- How much can the target model still learn from each pair's candidates: the gap's distribution?
-- A row a pair, over its scored candidates, largest median first. Intervals of 95%: the normal approximation for the mean,
-- Wilson's for the rate.
-- The gap is the one that counts: gap_calibrated where a shard was scored with calibration.
-- positive: candidates with a gap above 0
-- p05: quantiles, interpolated between values
SELECT
    c.pair_id,
    count(i.gap) AS scored,
    avg(i.gap) AS mean_gap,
    mean_low(i.gap) AS mean_gap_low,
    mean_high(i.gap) AS mean_gap_high,
    min(i.gap) AS least,
    quantile_cont(i.gap, 0.05) AS p05,
    quantile_cont(i.gap, 0.25) AS p25,
    median(i.gap) AS median_gap,
    quantile_cont(i.gap, 0.75) AS p75,
    quantile_cont(i.gap, 0.95) AS p95,
    max(i.gap) AS greatest,
    count(*) FILTER (WHERE i.gap > 0) AS positive,
    count(*) FILTER (WHERE i.gap > 0) / nullif(count(i.gap), 0) AS positive_rate,
    wilson_low(count(*) FILTER (WHERE i.gap > 0), count(i.gap)) AS positive_rate_low,
    wilson_high(count(*) FILTER (WHERE i.gap > 0), count(i.gap)) AS positive_rate_high
FROM candidates AS c
LEFT JOIN (SELECT candidate_id, coalesce(gap_calibrated, gap) AS gap FROM ifd_scores) AS i USING (candidate_id)
GROUP BY c.pair_id
ORDER BY median_gap DESC NULLS LAST, c.pair_id
