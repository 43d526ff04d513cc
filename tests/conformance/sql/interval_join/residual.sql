-- a further condition over both sides
SELECT e.id, e.level, r.n, r.v
FROM events AS e JOIN readings_all AS r
ON e.device = r.device AND r.ts BETWEEN e.ts - INTERVAL '5' SECOND AND e.ts + INTERVAL '2' SECOND AND r.v < e.level;
