-- tumbling windows counted in hopping ones
CREATE VIEW per_5 AS
SELECT window_time AS wt, COUNT(*) AS c
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '5' SECOND))
GROUP BY window_start, window_end, window_time;
SELECT window_start, window_end, SUM(c) AS c, MAX(c) AS busiest
FROM TABLE(HOP(TABLE per_5, DESCRIPTOR(wt), INTERVAL '10' SECOND, INTERVAL '20' SECOND))
GROUP BY window_start, window_end;
