"""What goes out: the rows of the final data set, its card and manifest, exports and preference pairs, domains and near-duplicates.

Writing the files is ``star_pipeline.adapters.dataset_files`` and ``export_files``; the report on a run is ``star_pipeline.report``.
"""
