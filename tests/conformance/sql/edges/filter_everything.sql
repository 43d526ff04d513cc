-- a filter that keeps nothing
SELECT device, window_start, COUNT(*) AS c FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
WHERE v > 5000 GROUP BY device, window_start, window_end;
