-- IFD small against large, candidates counted in 32 by 32 bins of equal width up to the 99th percentile; the last bin holds the rest.
WITH scored AS (
    SELECT ifd_small, ifd_large, gap FROM ifd_scores WHERE gap IS NOT NULL
),
range AS (
    SELECT
        least(min(ifd_small), min(ifd_large)) AS low,
        greatest(quantile_cont(ifd_small, 0.99), quantile_cont(ifd_large, 0.99)) AS high
    FROM scored
),
binned AS (
    SELECT
        least(31, floor(32 * (ifd_small - low) / nullif(high - low, 0))) AS x,
        least(31, floor(32 * (ifd_large - low) / nullif(high - low, 0))) AS y
    FROM scored, range
)
SELECT
    low + coalesce(x, 0) * (high - low) / 32 AS small_low,
    low + (coalesce(x, 0) + 1) * (high - low) / 32 AS small_high,
    low + coalesce(y, 0) * (high - low) / 32 AS large_low,
    low + (coalesce(y, 0) + 1) * (high - low) / 32 AS large_high,
    count(*) AS candidates
FROM binned, range
GROUP BY ALL
ORDER BY small_low, large_low
