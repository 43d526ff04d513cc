-- LEFT: events without readings come once, with NULLs
SELECT e.id, e.kind, r.n, r.v
FROM events AS e LEFT JOIN readings_all AS r ON e.device = r.device AND r.ts BETWEEN e.ts - INTERVAL '5' SECOND AND e.ts + INTERVAL '2' SECOND;
