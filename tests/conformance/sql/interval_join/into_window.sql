-- the pairs counted in windows of the left side's time
CREATE VIEW pairs AS
SELECT e.id, e.ts, r.v
FROM events AS e JOIN readings_all AS r
ON e.device = r.device AND r.ts BETWEEN e.ts - INTERVAL '5' SECOND AND e.ts + INTERVAL '2' SECOND;
SELECT window_start, window_end, COUNT(*) AS c, COUNT(DISTINCT id) AS events, SUM(v) AS s
FROM TABLE(TUMBLE(TABLE pairs, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end;
