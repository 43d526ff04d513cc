-- events with the readings of their device around them
SELECT e.id, e.kind, r.n, r.v, r.ts
FROM events AS e JOIN readings_all AS r ON e.device = r.device AND r.ts BETWEEN e.ts - INTERVAL '5' SECOND AND e.ts + INTERVAL '2' SECOND;
