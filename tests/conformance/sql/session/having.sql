-- only sessions of several rows
SELECT device, window_start, COUNT(*) AS c
FROM TABLE(SESSION(TABLE readings PARTITION BY device, DESCRIPTOR(ts), INTERVAL '5' SECOND))
GROUP BY device, window_start, window_end
HAVING COUNT(*) > 2 AND MAX(v) > 1;
