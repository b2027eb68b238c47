-- In which categories of questions does an arm's model gain or lose?
-- A row a target, measure, category (or file of questions) and arm; of all questions: study_summary. p_holm is corrected over the arms of
-- a category, not over the categories: of many categories one in twenty shows a difference by chance.
-- part: the category, or the file of questions
-- difference: the arm's figure minus the baseline's; null: it is the baseline
-- difference_low: lower end of the difference's 95% interval
-- difference_high: upper end of the difference's 95% interval
-- n: questions behind the difference
-- out_of_date: the training sets have been made again since, with other rows; star-pipeline study measures those
SELECT
    target,
    measure,
    part,
    arm,
    baseline,
    figure,
    figure_low,
    figure_high,
    difference,
    low AS difference_low,
    high AS difference_high,
    p_holm,
    n,
    shown,
    EXISTS (SELECT 1 FROM stale_tables AS s WHERE s.asset = 'study_results') AS out_of_date
FROM study_results
WHERE part <> 'all' AND measure IN ('held_out_loss', 'win_rate', 'length_controlled_win_rate', 'grade')
