-- a further condition in a LEFT join: pairs that fail it count as none
SELECT e.id, e.level, r.n, r.v
FROM events AS e LEFT JOIN readings_all AS r
ON e.device = r.device AND r.ts BETWEEN e.ts - INTERVAL '5' SECOND AND e.ts + INTERVAL '2' SECOND AND r.v < e.level;
