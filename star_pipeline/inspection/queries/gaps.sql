-- IFD and gap by pair: mean, median and share of positive gaps
SELECT pair_id, count(gap) AS scored, round(avg(ifd_small), 4) AS ifd_small, round(avg(ifd_large), 4) AS ifd_large,
    round(median(gap), 4) AS median_gap, round(avg(CAST(gap > 0 AS INTEGER)), 4) AS positive_gaps
FROM ifd_scores JOIN candidates USING (candidate_id) GROUP BY pair_id ORDER BY median_gap DESC
