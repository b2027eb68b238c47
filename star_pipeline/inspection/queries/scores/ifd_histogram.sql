-- How are the IFDs spread, in bins that all pairs and both models share?
-- A row a pair, model and bin, empty bins too: 40 bins of one width from the 0.5% to the 99.5% quantile of all IFDs. What lies
-- beyond is counted in the first and the last bin.
-- model: small, the target model, or large
-- rows: scored candidates with bin_low <= IFD < bin_high
WITH scored AS (
    SELECT c.pair_id, i.model, i.ifd
    FROM candidates AS c
    JOIN (
        SELECT candidate_id, 'small' AS model, ifd_small AS ifd
        FROM ifd_scores
        UNION ALL
        SELECT candidate_id, 'large' AS model, ifd_large AS ifd
        FROM ifd_scores
    ) AS i USING (candidate_id)
    WHERE i.ifd IS NOT NULL
),
edges AS (
    SELECT
        quantile_cont(ifd, 0.005) AS low,
        greatest(quantile_cont(ifd, 0.995) - quantile_cont(ifd, 0.005), 1e-6) / 40 AS width
    FROM scored
),
bins AS (
    SELECT s.pair_id, s.model, b.bin, e.low + b.bin * e.width AS bin_low, e.low + (b.bin + 1) * e.width AS bin_high
    FROM (SELECT DISTINCT pair_id, model FROM scored) AS s, range(40) AS b (bin), edges AS e
),
counted AS (
    SELECT pair_id, model, greatest(0, least(39, floor((ifd - low) / width)))::BIGINT AS bin, count(*) AS rows
    FROM scored, edges
    GROUP BY ALL
)
SELECT pair_id, model, bin_low, bin_high, coalesce(rows, 0) AS rows
FROM bins
LEFT JOIN counted USING (pair_id, model, bin)
ORDER BY pair_id, model DESC, bin_low
