-- CUBE in a window
SELECT device, site, window_end, COUNT(*) AS c, MAX(n) AS hi
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
GROUP BY window_start, window_end, CUBE (site, device);
