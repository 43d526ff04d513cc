-- without an aggregate that is read GROUP BY is DISTINCT
-- key: device
SELECT device FROM (SELECT device, COUNT(*) AS c, MAX(v) AS hi FROM readings_plain GROUP BY device);
