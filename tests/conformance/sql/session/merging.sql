-- a row out of order joins two sessions; a late one belongs to an open session and counts
SELECT k, window_start, window_end, COUNT(*) AS c, SUM(n) AS s, MIN(n) AS lo
FROM TABLE(SESSION(TABLE touching PARTITION BY k, DESCRIPTOR(ts), INTERVAL '2' SECOND))
GROUP BY k, window_start, window_end;
