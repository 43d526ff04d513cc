-- a condition on the window's own columns
SELECT device, window_start, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
WHERE window_start >= TIMESTAMP '2026-03-01 00:00:10' AND window_end < TIMESTAMP '2026-03-01 03:00:00'
GROUP BY device, window_start, window_end;
