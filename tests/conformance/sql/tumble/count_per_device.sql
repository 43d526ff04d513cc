-- counts, sums and extremes per device and window; late rows are dropped, NULL is a key
SELECT device, window_start, window_end, COUNT(*) AS c, COUNT(v) AS cv, SUM(v) AS s, MIN(n) AS lo, MAX(n) AS hi
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY device, window_start, window_end;
