-- two updating inputs, FULL
-- order: final
SELECT a.device AS ad, b.device AS bd, a.c, b.events
FROM (SELECT device, COUNT(*) AS c FROM readings_plain GROUP BY device) AS a
FULL JOIN (SELECT device, COUNT(*) AS events FROM events GROUP BY device) AS b
ON a.device = b.device;
