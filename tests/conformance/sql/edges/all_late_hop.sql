-- late rows over overlapping windows of a day: some windows are still open
SELECT window_start, window_end, COUNT(*) AS c FROM TABLE(HOP(TABLE late_ones, DESCRIPTOR(ts), INTERVAL '6' HOUR, INTERVAL '1' DAY))
GROUP BY window_start, window_end;
