-- ROLLUP in a window
SELECT device, site, window_start, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '30' SECOND))
GROUP BY window_start, window_end, ROLLUP (site, device);
