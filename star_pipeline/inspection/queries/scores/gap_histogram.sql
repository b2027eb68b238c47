-- How are the gaps spread, in bins that all pairs share?
-- A row a pair and bin, empty bins too: 40 bins of one width from the 0.5% to the 99.5% quantile of all gaps. What lies beyond is
-- counted in the first and the last bin.
-- rows: scored candidates with bin_low <= gap < bin_high
WITH scored AS (
    SELECT c.pair_id, i.gap
    FROM candidates AS c
    JOIN ifd_scores AS i USING (candidate_id)
    WHERE i.gap IS NOT NULL
),
edges AS (
    SELECT
        quantile_cont(gap, 0.005) AS low,
        greatest(quantile_cont(gap, 0.995) - quantile_cont(gap, 0.005), 1e-6) / 40 AS width
    FROM scored
),
bins AS (
    SELECT s.pair_id, b.bin, e.low + b.bin * e.width AS bin_low, e.low + (b.bin + 1) * e.width AS bin_high
    FROM (SELECT DISTINCT pair_id FROM scored) AS s, range(40) AS b (bin), edges AS e
),
counted AS (
    SELECT pair_id, greatest(0, least(39, floor((gap - low) / width)))::BIGINT AS bin, count(*) AS rows
    FROM scored, edges
    GROUP BY ALL
)
SELECT pair_id, bin_low, bin_high, coalesce(rows, 0) AS rows
FROM bins
LEFT JOIN counted USING (pair_id, bin)
ORDER BY pair_id, bin_low
