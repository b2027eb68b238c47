-- Wins by how long the candidate's response is beside the reference's, over all pairs.
SELECT
    CASE
        WHEN ratio_low = 0 THEN format('below {}', ratio_high)
        WHEN ratio_high IS NULL THEN format('{} and above', ratio_low)
        ELSE format('{} to {}', ratio_low, ratio_high)
    END AS length_ratio,
    compared, won, win_rate, win_rate_low, win_rate_high
FROM length_bias WHERE pair_id = 'all pairs' AND ratio_low IS NOT NULL ORDER BY ratio_low
