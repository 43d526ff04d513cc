-- overlapping windows: a late row is missing in those that fired and counts in the later ones
SELECT device, window_start, window_end, COUNT(*) AS c, SUM(v) AS s
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND))
GROUP BY device, window_start, window_end;
