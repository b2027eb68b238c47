-- How did the seeds become the final data set?
-- A row a step. Steps 1 to 6 count candidates of all seeds, removed ones too; the others count seeds or rows.
-- rows: how many are left at the step
SELECT 1 AS step, 'candidates planned' AS what, count(*) AS rows FROM sampling_plan
UNION ALL
SELECT 2, 'candidates made', count(*) FROM candidates WHERE status = 'ok'
UNION ALL
SELECT 3, 'scored', count(*) FROM ifd_scores WHERE status = 'ok'
UNION ALL
SELECT 4, 'with a positive gap', count(*) FROM ifd_scores WHERE coalesce(gap_calibrated, gap) > 0
UNION ALL
SELECT 5, 'with a positive pi', count(*) FROM composite_scores WHERE pi > 0
UNION ALL
SELECT 6, 'selected as best of their seed', count(*) FROM composite_scores WHERE selection = 'best'
UNION ALL
SELECT 7, 'live seeds', count(*) FROM seed_catalog WHERE live
UNION ALL
SELECT 8, 'left out by a setting', count(*) FROM left_out_rows
UNION ALL
SELECT 9, 'rows of the final data set', count(*) FROM star_dataset
ORDER BY step
