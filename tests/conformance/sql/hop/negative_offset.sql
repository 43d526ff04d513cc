-- an offset may be negative
SELECT window_start, window_end, COUNT(*) AS c
FROM TABLE(HOP(TABLE readings, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '20' SECOND, INTERVAL '-1' SECOND))
GROUP BY window_start, window_end;
