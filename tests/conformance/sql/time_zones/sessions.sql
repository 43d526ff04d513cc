-- sessions over instants
SELECT k, window_start, window_end, COUNT(*) AS c
FROM TABLE(SESSION(TABLE instants PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' HOUR))
GROUP BY k, window_start, window_end;
