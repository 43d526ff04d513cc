-- HAVING: a group enters and leaves the result
-- key: device
SELECT device, COUNT(*) AS c, AVG(v) AS a FROM readings_plain GROUP BY device HAVING AVG(v) > 3;
