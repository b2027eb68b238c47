-- How far the judge can be trusted: reversals by order, and whether the longer answer wins
SELECT * FROM judge_bias
