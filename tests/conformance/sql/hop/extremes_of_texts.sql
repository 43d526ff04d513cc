-- MIN and MAX of texts, times and whole numbers, over panes
SELECT device, window_start, MIN(site) AS lo, MAX(site) AS hi, MAX(ts) AS latest, MIN(ts) AS earliest, MAX(n) AS n
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
GROUP BY device, window_start, window_end;
