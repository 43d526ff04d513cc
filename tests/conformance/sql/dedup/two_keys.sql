-- two keys, NULL being a value
-- key: device, site
SELECT device, site, n
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device, site ORDER BY ts DESC) AS rn FROM readings)
WHERE rn = 1;
