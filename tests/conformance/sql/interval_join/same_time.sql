-- the interval of one instant
SELECT e.id, r.n, e.ts
FROM events AS e JOIN readings_all AS r ON e.device = r.device AND e.ts = r.ts;
