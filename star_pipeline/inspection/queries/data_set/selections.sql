-- What is the final data set made of?
-- A row an origin, pair and kind of selection.
-- origin: seed (its own response, unchanged), reference (what the judge compares with), base (another base pair), or sampled (drawn)
-- rows: rows of the final data set
-- share: of all its rows
SELECT
    CASE
        WHEN d.pair_id = 'seed' THEN 'seed'
        WHEN p.slot = 0 THEN 'reference'
        WHEN p.origin = 'base' THEN 'base'
        ELSE 'sampled'
    END AS origin,
    d.pair_id,
    d.selection,
    count(*) AS rows,
    count(*) / sum(count(*)) OVER () AS share,
    round(avg(d.pi), 4) AS mean_pi,
    round(avg(d.gap), 4) AS mean_gap
FROM star_dataset AS d
LEFT JOIN sampling_plan AS p USING (candidate_id)
GROUP BY ALL
ORDER BY rows DESC, origin, d.pair_id, d.selection
