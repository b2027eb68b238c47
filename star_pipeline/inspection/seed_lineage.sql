-- The seeds of one record of a file, to what was selected, a row a candidate: SELECT * FROM seed_lineage('seeds.json', 7)
CREATE MACRO seed_lineage(of_source, of_row) AS TABLE
SELECT * FROM lineage WHERE source = of_source AND source_row = of_row ORDER BY turn, slot;
