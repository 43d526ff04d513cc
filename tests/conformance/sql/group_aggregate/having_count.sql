-- HAVING on a count that only grows
-- key: device
SELECT device, COUNT(*) AS c FROM readings_plain GROUP BY device HAVING COUNT(*) >= 5;
