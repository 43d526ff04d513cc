-- DISTINCT and FILTER in sessions
SELECT site, window_start, COUNT(DISTINCT device) AS d, COUNT(*) FILTER (WHERE v < 2) AS low, AVG(v) AS a
FROM TABLE(SESSION(TABLE readings PARTITION BY site, DESCRIPTOR(ts), INTERVAL '3' SECOND))
GROUP BY site, window_start, window_end;
