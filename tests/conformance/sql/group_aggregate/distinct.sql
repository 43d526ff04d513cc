-- COUNT, SUM DISTINCT
-- key: site
SELECT site, COUNT(DISTINCT device) AS d, SUM(DISTINCT n) AS s, COUNT(*) AS c
FROM readings_plain WHERE n < 1000 GROUP BY site;
