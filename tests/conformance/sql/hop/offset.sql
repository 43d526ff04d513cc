-- an offset moves all windows
SELECT window_start, window_end, COUNT(*) AS c, MAX(n) AS hi
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '15' SECOND, INTERVAL '2' SECOND))
GROUP BY window_start, window_end;
