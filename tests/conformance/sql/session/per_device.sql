-- sessions per device; a late row of a closed session is dropped
SELECT device, window_start, window_end, COUNT(*) AS c, SUM(v) AS s
FROM TABLE(SESSION(TABLE readings PARTITION BY device, DESCRIPTOR(ts), INTERVAL '4' SECOND))
GROUP BY device, window_start, window_end;
