-- sessions of busy windows
CREATE VIEW busy AS
SELECT device, window_time AS wt, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '2' SECOND))
GROUP BY device, window_start, window_end, window_time;
SELECT device, window_start, window_end, SUM(c) AS c
FROM TABLE(SESSION(TABLE busy PARTITION BY device, DESCRIPTOR(wt), INTERVAL '5' SECOND))
GROUP BY device, window_start, window_end;
