-- GROUPING SETS in a window: rows of every set, NULL for what is not in it
SELECT device, site, window_start, COUNT(*) AS c, SUM(v) AS s
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '30' SECOND))
GROUP BY window_start, window_end, GROUPING SETS ((device), (site), ());
