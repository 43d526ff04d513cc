-- expressions without a column, CASE, COALESCE, NULLIF
SELECT n, CASE WHEN v IS NULL THEN 'none' WHEN v > 5 THEN 'high' ELSE 'low' END AS level,
  COALESCE(site, device, '?') AS place, NULLIF(device, 'a') AS not_a, CASE device WHEN 'a' THEN 1 WHEN 'b' THEN 2 END AS number, 1 + 1 AS two
FROM readings;
