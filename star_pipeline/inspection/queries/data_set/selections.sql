-- What is the final data set made of?
-- A row a kind of selection and pair.
-- rows: rows of the final data set
SELECT selection, pair_id, count(*) AS rows, round(avg(pi), 4) AS mean_pi, round(avg(gap), 4) AS mean_gap
FROM star_dataset
GROUP BY selection, pair_id
ORDER BY rows DESC, selection, pair_id
