-- two updating inputs
-- order: final
SELECT a.device, a.c, b.events, b.worst
FROM (SELECT device, COUNT(*) AS c FROM readings_plain GROUP BY device) AS a
JOIN (SELECT device, COUNT(*) AS events, MAX(level) AS worst FROM events GROUP BY device) AS b
ON a.device = b.device;
