-- small windows into large ones through window_time
CREATE VIEW per_5 AS
SELECT device, window_time AS wt, COUNT(*) AS c, SUM(v) AS s
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND))
GROUP BY device, window_start, window_end, window_time;
SELECT device, window_start, window_end, SUM(c) AS c, SUM(s) AS s, COUNT(*) AS windows
FROM TABLE(TUMBLE(TABLE per_5, DESCRIPTOR(wt), INTERVAL '20' SECOND))
GROUP BY device, window_start, window_end;
