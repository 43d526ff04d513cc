-- arguments by name
SELECT window_start, COUNT(*) AS c, SUM(v) AS s
FROM TABLE(TUMBLE(DATA => TABLE readings, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE))
GROUP BY window_start, window_end;
