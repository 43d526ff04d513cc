-- RIGHT: readings without events
SELECT e.id, r.device, r.n
FROM events AS e RIGHT JOIN readings_all AS r ON e.device = r.device AND r.ts BETWEEN e.ts - INTERVAL '5' SECOND AND e.ts + INTERVAL '2' SECOND;
