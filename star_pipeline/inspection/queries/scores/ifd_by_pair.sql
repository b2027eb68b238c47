-- How much does the instruction help each model to predict each pair's responses: the IFD's distribution?
-- Two rows a pair, over its scored candidates. Intervals of 95%: the normal approximation for the mean, Wilson's for the rate.
-- model: small, the target model, or large
-- p05: quantiles, interpolated between values
-- above_1: candidates whose instruction makes their response harder to predict
SELECT
    c.pair_id,
    i.model,
    count(i.ifd) AS scored,
    avg(i.ifd) AS mean_ifd,
    mean_low(i.ifd) AS mean_ifd_low,
    mean_high(i.ifd) AS mean_ifd_high,
    min(i.ifd) AS least,
    quantile_cont(i.ifd, 0.05) AS p05,
    quantile_cont(i.ifd, 0.25) AS p25,
    median(i.ifd) AS median_ifd,
    quantile_cont(i.ifd, 0.75) AS p75,
    quantile_cont(i.ifd, 0.95) AS p95,
    max(i.ifd) AS greatest,
    count(*) FILTER (WHERE i.ifd > 1) AS above_1,
    count(*) FILTER (WHERE i.ifd > 1) / nullif(count(i.ifd), 0) AS above_1_rate,
    wilson_low(count(*) FILTER (WHERE i.ifd > 1), count(i.ifd)) AS above_1_rate_low,
    wilson_high(count(*) FILTER (WHERE i.ifd > 1), count(i.ifd)) AS above_1_rate_high
FROM candidates AS c
JOIN (
    SELECT candidate_id, 'small' AS model, ifd_small AS ifd
    FROM ifd_scores
    UNION ALL
    SELECT candidate_id, 'large' AS model, ifd_large AS ifd
    FROM ifd_scores
) AS i USING (candidate_id)
GROUP BY c.pair_id, i.model
ORDER BY c.pair_id, i.model DESC
