-- the window's columns that are not selected are grouped by all the same
SELECT window_end, MAX(v) AS hi, MIN(v) AS lo, AVG(v) AS a
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND))
GROUP BY window_start, window_end;
