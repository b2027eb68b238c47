-- Wins by how long the candidate's response is beside the reference's, over all pairs; decided and longer_won are of all ratios together.
SELECT
    CASE
        WHEN r.ratio_low = 0 THEN format('below {}', r.ratio_high)
        WHEN r.ratio_high IS NULL THEN format('{} and above', r.ratio_low)
        ELSE format('{} to {}', r.ratio_low, r.ratio_high)
    END AS length_ratio,
    r.compared, r.won, r.win_rate, r.win_rate_low, r.win_rate_high,
    a.decided, a.longer_won
FROM length_bias AS r
JOIN length_bias AS a ON a.pair_id = r.pair_id AND a.ratio_low IS NULL
WHERE r.pair_id = 'all pairs' AND r.ratio_low IS NOT NULL ORDER BY r.ratio_low
