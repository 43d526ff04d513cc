-- arrays of a window, and their size
SELECT window_start, ARRAY_AGG(id) AS ids, ARRAY_AGG(DISTINCT doc) AS docs, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE bags, DESCRIPTOR(ts), INTERVAL '10' SECOND))
WHERE id <> 3
GROUP BY window_start, window_end;
