-- FULL: both
SELECT e.id, e.device AS ed, r.device AS rd, r.n
FROM events AS e FULL OUTER JOIN readings_all AS r ON e.device = r.device AND r.ts BETWEEN e.ts - INTERVAL '5' SECOND AND e.ts + INTERVAL '2' SECOND;
