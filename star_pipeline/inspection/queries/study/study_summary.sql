-- Does the data make a better model: which arm, by which measure, and is that sure?
-- A row a target, measure and arm, of all questions of a measure, and of each task; by category: study_categories. Differences are paired
-- by question, with 95% intervals (Student-t over questions); p_holm is corrected over the arms. Where shown says no difference shown,
-- detectable tells which differences so many questions would have shown.
-- part: all, or the task
-- difference: the arm's figure minus the baseline's; null: it is the baseline
-- difference_low: lower end of the difference's 95% interval
-- difference_high: upper end of the difference's 95% interval
-- n: questions behind the difference
-- needed: questions to show a difference as the one seen; null: none was seen
-- detectable: smallest difference that these questions would show
-- tuning: the arm's figure minus the untuned target's; null where that was not measured
-- tuning_low: lower end of that difference's 95% interval
-- tuning_high: upper end of that difference's 95% interval
-- tuning_shown: whether tuning on the arm is shown to be better or worse than none
-- out_of_date: the training sets have been made again since, with other rows; star-pipeline study measures those
SELECT
    target,
    measure,
    part,
    arm,
    baseline,
    better,
    figure,
    figure_low,
    figure_high,
    difference,
    low AS difference_low,
    high AS difference_high,
    p_holm,
    n,
    seeds,
    needed,
    detectable,
    shown,
    tuning,
    tuning_low,
    tuning_high,
    tuning_shown,
    words,
    EXISTS (SELECT 1 FROM stale_tables AS s WHERE s.asset = 'study_results') AS out_of_date
FROM study_results
WHERE part = 'all' OR measure NOT IN ('held_out_loss', 'win_rate', 'length_controlled_win_rate', 'grade')
