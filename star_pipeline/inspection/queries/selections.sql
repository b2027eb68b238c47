-- What the final data set is made of: rows by selection and pair
SELECT selection, pair_id, count(*) AS rows, round(avg(pi), 4) AS mean_pi, round(avg(gap), 4) AS mean_gap
FROM star_dataset GROUP BY ALL ORDER BY rows DESC, pair_id
