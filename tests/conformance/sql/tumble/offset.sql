-- windows that begin 3 seconds after the multiples of 10
SELECT device, window_start, window_end, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '3' SECOND))
GROUP BY device, window_start, window_end;
