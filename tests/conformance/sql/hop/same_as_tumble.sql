-- slide equal to size
SELECT device, window_start, COUNT(*) AS c
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '10' SECOND))
GROUP BY device, window_start, window_end;
