-- a row exactly one gap after the last is in the same session, one millisecond more is not
SELECT k, window_start, window_end, COUNT(*) AS c
FROM TABLE(SESSION(TABLE touching PARTITION BY k, DESCRIPTOR(ts), INTERVAL '5' SECOND))
GROUP BY k, window_start, window_end;
