-- a day by hours over quiet hours
SELECT window_start, window_end, COUNT(*) AS c, SUM(level) AS s
FROM TABLE(CUMULATE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '1' DAY))
GROUP BY window_start, window_end;
