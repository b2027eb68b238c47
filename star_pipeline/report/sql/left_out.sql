-- Rows that were selected and kept out of the final data set, by reason.
SELECT reason, count(*) AS rows, min(detail) AS example FROM left_out GROUP BY reason ORDER BY rows DESC, reason
