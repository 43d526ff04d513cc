-- an aggregate over the last rows
-- key: site
SELECT site, COUNT(*) AS c, SUM(n) AS s
FROM (
  SELECT device, site, n
  FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY ts DESC) AS rn FROM readings)
  WHERE rn = 1 AND (n IS NULL OR n < 1000)
)
GROUP BY site;
