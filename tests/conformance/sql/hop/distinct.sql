-- DISTINCT over panes that are shared by windows
SELECT window_start, COUNT(DISTINCT device) AS d, COUNT(DISTINCT n) AS dn
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '20' SECOND))
GROUP BY window_start, window_end;
