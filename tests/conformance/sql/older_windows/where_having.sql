-- WHERE, HAVING and expressions around the older windows
SELECT site, TUMBLE_END(ts, INTERVAL '1' MINUTE) AS we, COUNT(DISTINCT device) AS d, SUM(v) / COUNT(v) AS m
FROM readings
WHERE v > 0
GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE), site
HAVING COUNT(*) >= 2;
