-- How the candidates became the final data set, a row a step.
SELECT what AS step, rows FROM funnel WHERE what NOT IN ('live seeds', 'left out by a setting') ORDER BY funnel.step
