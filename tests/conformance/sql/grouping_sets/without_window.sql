-- GROUPING SETS without a window: a changelog per set
-- key: device, site
SELECT device, site, COUNT(*) AS c, SUM(n) AS s
FROM readings_plain
WHERE n < 1000
GROUP BY GROUPING SETS ((device, site), (site), ());
