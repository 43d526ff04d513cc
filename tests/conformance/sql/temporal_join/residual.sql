-- a further condition
SELECT e.id, e.level, d.rate
FROM events AS e
LEFT JOIN rates FOR SYSTEM_TIME AS OF e.ts AS d ON e.device = d.device AND e.level > d.rate;
