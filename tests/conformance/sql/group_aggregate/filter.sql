-- FILTER, also with DISTINCT
-- key: device
SELECT device, COUNT(*) FILTER (WHERE v > 3) AS high, SUM(v) FILTER (WHERE site = 'x') AS x,
  COUNT(DISTINCT site) FILTER (WHERE v > 1) AS sites
FROM readings_plain GROUP BY device;
