-- ARRAY[...], MAP[...], ROW(...)
SELECT id, ARRAY[id, id * 2] AS pair, MAP['id', id, 'none', 0] AS m, ROW(id, doc) AS r FROM bags;
