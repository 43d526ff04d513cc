-- two aggregates of the same windows side by side
CREATE VIEW r AS
SELECT device, window_start, window_end, COUNT(*) AS c, MAX(v) AS hi
FROM TABLE(HOP(TABLE readings_all, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '20' SECOND))
GROUP BY device, window_start, window_end;
CREATE VIEW e AS
SELECT device, window_start, window_end, COUNT(*) AS c, MAX(level) AS hi
FROM TABLE(HOP(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '20' SECOND))
GROUP BY device, window_start, window_end;
SELECT COALESCE(r.device, e.device) AS device, r.c AS rc, e.c AS ec, r.hi, e.hi AS level, r.window_start AS rs, e.window_start AS es
FROM r FULL JOIN e
ON r.device = e.device AND r.window_start = e.window_start AND r.window_end = e.window_end;
