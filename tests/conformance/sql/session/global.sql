-- one session over all rows
SELECT window_start, window_end, COUNT(*) AS c, COUNT(DISTINCT device) AS d
FROM TABLE(SESSION(TABLE readings, DESCRIPTOR(ts), INTERVAL '3' SECOND))
GROUP BY window_start, window_end;
