-- What the queries share; kept in the inspection file, for an analyst's own SQL as well. All intervals are of 95%.

-- The standard normal distribution's 0.975 quantile.
CREATE MACRO z95() AS 1.959963984540054;

-- Ends of the Wilson score interval of a rate, k successes in n trials; null where n is 0 or k is null.
CREATE MACRO wilson_low(k, n) AS CASE
    WHEN n > 0 AND k = 0 THEN 0
    WHEN n > 0
        THEN (k / n + z95() ** 2 / (2 * n) - z95() * sqrt(k / n * (1 - k / n) / n + z95() ** 2 / (4 * n ** 2)))
            / (1 + z95() ** 2 / n)
END;
CREATE MACRO wilson_high(k, n) AS 1 - wilson_low(n - k, n);

-- Ends of the interval of a mean by the normal approximation, nulls left out; null below two values. For where avg may stand.
CREATE MACRO mean_low(x) AS CASE WHEN count(x) > 1 THEN avg(x) - z95() * stddev_samp(x) / sqrt(count(x)) END;
CREATE MACRO mean_high(x) AS CASE WHEN count(x) > 1 THEN avg(x) + z95() * stddev_samp(x) / sqrt(count(x)) END;
